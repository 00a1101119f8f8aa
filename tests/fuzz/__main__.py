"""`python -m tests.fuzz`, see guided.py: the compiled code is the one that was built for it."""

import tests.support.sanitized  # noqa: F401 - before anything imports the core

from tests.fuzz.guided import main  # isort: skip

if __name__ == "__main__":
    main()
