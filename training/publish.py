"""Push a checkpoint with its card to a hub: only ever when asked to.

The key is read from the environment (`HF_TOKEN`) or from `hf auth login`.

    python -m training.publish --checkpoint runs/mini/student/best --repo me/my-student
"""

import argparse
from pathlib import Path

from spacy_uniner.students.checkpoint import find_checkpoint, verify

from .files import InputError, run_script

# what a checkpoint is made of; nothing else in the folder leaves the machine
PATTERNS = ["*.safetensors", "*.json", "tokenizer.model", "README.md"]


def publish(folder: Path, repo: str, *, private: bool, revision: str = "main") -> str:
    """Push a checkpoint.

    folder (Path): The checkpoint, with its card.
    repo (str): Name on the hub, "OWNER/NAME"; made if it is not there.
    private (bool): Whether a repository that is made is private.
    revision (str): Branch.
    RETURNS (str): Where it is.
    RAISES (InputError): If it has no card that tells its licence, or the hub refuses.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

    checkpoint = find_checkpoint(str(folder))
    verify(checkpoint)
    if checkpoint.licence is None:
        raise InputError(
            f"{folder} has no card that tells its licence. Write one, for instance with "
            "`python -m training.card`: README.md with `license: ...` at its head."
        )
    api = HfApi()
    try:
        api.create_repo(repo, private=private, exist_ok=True)
        done = api.upload_folder(
            repo_id=repo,
            folder_path=folder,
            allow_patterns=PATTERNS,
            revision=revision,
            commit_message="Checkpoint, with its card",
        )
    except (HfHubHTTPError, LocalTokenNotFoundError, ValueError) as error:
        told = str(error).splitlines()[0]
        raise InputError(f"The hub did not take {repo!r}: {told}") from None
    return str(done)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--repo", required=True, help="OWNER/NAME")
    parser.add_argument("--private", action="store_true")
    parser.add_argument("--revision", default="main")
    args = parser.parse_args()
    where = publish(
        args.checkpoint, args.repo, private=args.private, revision=args.revision
    )
    print(f"{args.checkpoint} -> {where}")


if __name__ == "__main__":
    run_script(main)
