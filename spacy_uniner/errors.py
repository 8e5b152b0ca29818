"""Coded errors and warnings: what was found, what is allowed, what to do.

Holds messages only. Codes are never reused.
"""

from typing import Any


class ErrorsWithCodes(type):
    """Put the code in front of the message when it is looked up."""

    def __getattribute__(cls, code: str) -> Any:
        message = super().__getattribute__(code)
        return message if code.startswith("__") else f"[{code}] {message}"


class Warnings(metaclass=ErrorsWithCodes):
    """Warnings of spacy_uniner. Each is shown once, with a count where it counts."""

    U101 = "Label {label!r} was given more than once; it is kept once."
    U102 = "The checkpoint {model!r} has this licence: {licence}. Check that your use is allowed."
    U103 = (
        "{truncated} answer(s) reached the limit of {limit} tokens and were cut. "
        "Raise `max_new_tokens` of the student, or pass shorter documents."
    )
    U104 = "The tokenizer of {path!r} is of no kind that is known: its answers are written without constraint, and checked afterwards."
    # ---- server
    U107 = (
        "{failed} of {n} question(s) got no answer from {host} and count as empty answers "
        "(in the ledger as unreadable, or as truncated where the passage is too long): {reason}."
    )
    U108 = "{host} was asked for the model {model!r} and answers with {found!r}, whose name it lists. Give that as `model`, or start the server with the model that you want."
    U109 = "Answers of {host} may be poor: {problem}."
    # ---- cache
    U105 = (
        "The cache {path!r} is damaged ({reason}). It was set aside as {aside!r}, in the same "
        "folder, and begun anew; delete that when you do not need it."
    )
    U106 = (
        "The cache {path!r} can't be used now: {reason}. Answers are right all the same, but they are "
        "asked for again and may not be kept. Make room, or give a `path` that can be written."
    )


class Errors(metaclass=ErrorsWithCodes):
    """Errors of spacy_uniner."""

    # ---- prompt
    U001 = "Unknown template {template!r}. Known templates: {known}."
    U002 = (
        "An entity type must be a phrase or sentence of 1 to {limit} characters without "
        "line breaks or control characters, got {entity_type!r}. Rename it, or map the "
        'label to a phrase: labels={{"LABEL": "phrase"}}.'
    )
    U003 = "Text holds a lone surrogate (U+{code:04X} at character {at}): it is not valid Unicode. Repair or replace it before you annotate."
    # ---- component
    U010 = (
        "The component has no labels. Give some in the config, e.g. "
        'labels=["person", "medical condition"], or call `add_label`.'
    )
    U011 = (
        "A label must be a string of 1 to {limit} characters without line breaks or control "
        "characters, got {label!r}."
    )
    U012 = "`threshold` is a probability and must lie in [0, 1], got {threshold!r}."
    U013 = "`threshold` names labels that the component does not have: {unknown}. Its labels: {labels}."
    U014 = "`{setting}` must be one of {allowed}, got {found!r}."
    U015 = "`batch_size` counts documents and must be at least 1, got {batch_size!r}."
    U016 = (
        "Label {label!r} has no type to ask for. Give a phrase, or a list of phrases."
    )
    U017 = "The types for one document (`doc.user_data[{key!r}]`, or the context of `as_tuples`) must be labels, got {found!r}: a list of strings or a mapping of label to phrases."
    U018 = "Can't read the labels saved in {path}: {reason}. Save the pipeline again, or pass `labels` when loading."
    U019 = "The student gave {found} answers to {expected} questions, passage by passage. A student answers each passage with one Answer per type, in order."
    U020 = (
        "A label or type can't hold `${{`, got {label!r}: a saved pipeline's config "
        "would read it as a variable. Write it another way."
    )
    # ---- checkpoints
    U030 = (
        "No checkpoint at {path!r}: {reason}. Give a folder with `config.json` and "
        "`*.safetensors`, a hub name such as 'Universal-NER/UniNER-7B-type' with "
        '`hub = true`, or "mini" for the shipped student.'
    )
    U031 = "The checkpoint {path!r} is a {found!r} model; a student is of the LLaMA architecture ('llama')."
    U032 = "The weights of {path!r} do not fit its config: {problem}. The checkpoint is damaged or incomplete; get it again."
    U033 = "The tokenizer of {path!r} does not know {marker!r} as one piece, which template {template!r} needs. Choose the right `template`, or get the tokenizer again."
    U034 = "`{setting}` of the student must be one of {allowed}, got {found!r}."
    U035 = (
        "The student was loaded in process {parent} and can't be used in its child {child}: after a "
        "fork, torch hangs. Call `nlp.pipe(..., n_process=...)` before the first document is annotated, "
        'or start workers with `multiprocessing.set_start_method("spawn")`.'
    )
    U036 = "Out of memory with a single passage of {n_tokens} tokens on {device}. Lower `max_passage_tokens`, or use a smaller checkpoint or a larger device."
    U037 = '{path!r} gives logits that are not finite: its weights are damaged, or {dtype} is too narrow for them. Get it again, or set `dtype = "float32"`.'
    U038 = "`{package}` is needed for {purpose}. Install it: pip install {install}"
    U039 = "`{setting}` counts {unit} and must be at least {least}, got {found!r}."
    U040 = "The file {file} of {path!r} has another SHA-256 than its manifest: expected {expected}, found {found}. Get the checkpoint again."
    U041 = "The tokenizer of {path!r} can't be read: {problem}. Get the checkpoint again; it needs `tokenizer.json` or `tokenizer.model` (and then the package sentencepiece)."
    U042 = "A passage of {passage} tokens and an answer of {answer} do not fit the {positions} positions of the checkpoint. Lower `max_passage_tokens` or `max_new_tokens`."
    U043 = 'There is no device {device!r} on this machine: {reason}. Choose another, or "auto".'
    U044 = "`{setting}` is a probability and must lie in [0, 1], got {found!r}. `mention_bound` must be 0, for greedy answers, or at least 0.01: lower ones would follow lists without end."
    U045 = "The tokenizer does not keep the list syntax {pieces} in single pieces, which training on legal pieces needs. Train one with `training.vocabulary`."
    U046 = "The calibration {path!r} can't be read: {problem}. Delete it, or make it again with `training.calibrate`."
    U047 = 'The weights of {path!r} ({gib:.1f} GiB) do not fit on the GPUs of this machine together. Set `device = "cpu"`, or use a smaller checkpoint.'
    U048 = "`dataset` is a name of 1 to {limit} characters without line breaks or control characters, got {dataset!r}."
    # ---- visual
    U050 = "A colour must be written as #RGB, #RRGGBB or #RRGGBBAA, got {colour!r} for label {label!r}."
    # ---- command line
    U060 = "Can't read {path!r}: {reason}."
    U061 = "Can't write {path!r}: its ending must be one of {allowed}."
    U062 = 'Line {line} of {path!r} is not a JSON object with a string under "text": {found}.'
    U063 = "Can't write {path!r}: its folder does not exist. Make it first."
    # ---- benchmark
    U070 = "There is no set {name!r}. Known: {known}."
    U071 = "The file {path!r} does not describe a test set: {reason}. See one of those in spacy_uniner/benchmark/sets."
    U072 = "The {split} files of {name!r} differ from those that are known: SHA-256 {found}, expected {expected}, in {path!r}. Delete them and fetch again."
    U073 = "Can't read line {line} of {path!r}: {reason}."
    U074 = "Label {label!r} of {path!r} is not among the labels of the set {name!r}: {known}."
    U075 = "The set {name!r} is not at hand: {how}"
    U076 = "There is no passage in the {split} part of {name!r} ({path!r})."
    U077 = "The predictions in {path!r} do not belong to {name!r}: {reason}. Score them with the set they were made for, or predict again."
    U078 = "The archive {path!r} holds {member!r}, which would be written outside of its folder. It is not unpacked."
    U079 = "There are {found} predictions and {expected} answers. One of each per question."
    U080 = "The pipeline writes no group of spans {key!r}, but {known}. Say one of these as `spans_key`, or none, to read `doc.ents`."
    # ---- training
    U082 = "The loss is {loss} at step {step}. Training stops; the last good checkpoint is {checkpoint}."
    U083 = "The run in {path} was started with another {what}: {found!r} there, {expected!r} now. Use a new folder, or the old settings."
    # ---- cache
    U090 = (
        "A cache needs to know what answers depend on, and {student} has this `identity`: {found!r}. Give it a "
        "property `identity`: a string that changes with its weights, its prompt and each setting that "
        "changes an answer. Or use it without `spacy-uniner.CachedStudent.v1`."
    )
    U091 = "`path` of a cache must be the name of a file, got {path!r}."
    U092 = "{path!r} is a database of something else, which is left as it is. Give the cache a `path` of its own."
    # ---- server
    U095 = "`url` must be the bare address of a server, such as http://localhost:8000/v1, without user, password or query, got {url!r}. A key goes into an environment variable that `key_env` names."
    U096 = "`key_env` names the environment variable {name!r}, which {reason}. Put the key there."
    U097 = "{host} answers no questions: {reason}. {cure}"
    U098 = '{host} did not answer a question: {reason}. Start or relieve the server, raise `timeout` or `retries`, or let the run go on without such answers with `on_error = "mark"`.'
    U099 = "A passage is too long for {host}: {reason}. Lower `max_passage_tokens`, or start the server with more room."
    U100 = "A passage of {passage} tokens, an answer of {answer} and {prompt} for the prompt do not fit the {context} tokens that {host} reads. Lower `max_passage_tokens` or `max_new_tokens`, or start the server with more room."
    # ---- corpora
    U110 = "There is nothing to annotate in {path!r}. Give files that end in one of {allowed}, or folders of them."
    U111 = "{path!r} holds a run with other {what}: {difference}. Give another folder, or what that run was given."
    U112 = "Another run is writing to {path!r}. Wait until it ends, or stop it; or give another folder."
    U113 = "Can't write to {path!r}: {reason}. What is done stays: once there is room, give the same command again and it goes on there."
    U114 = "The pipeline fails on any text, so the fault is not in the documents: {reason}. What is done stays; put it right and give the same command again."
    U115 = "Shard {shard} (documents {first} to {last}) ended its worker {times} times: {reason}. What is done stays. Give the workers more memory, make shards smaller in a new folder, or take the document out that does it."
    U116 = "{workers} worker(s) with {cpus} CPU(s) and {gpus} GPU(s) each do not fit Ray's {found}. Ask for fewer (`workers`, `gpus`), or add machines."
    U117 = (
        "{path!r} holds no run to go on with: {reason}. Give an empty or a new folder."
    )
    U118 = "`{setting}` {problem}."
    U119 = "A component of the pipeline gives other documents than it was given, so their numbers are lost. Annotate in place, as spaCy asks for."
