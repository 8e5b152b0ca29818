"""`python -m spacy_uniner`."""

from .cli import main

if __name__ == "__main__":
    main()
