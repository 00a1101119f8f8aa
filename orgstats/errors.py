"""What can go wrong, split by what the caller must do; the command's exit codes follow from it.

OrgstatsError              70  a bug: report it
├── ConfigurationError     78  change a setting, a flag or a file, then start again
├── Refused                78  going on could make counts wrong: an operator decides, the text names the repair
├── Unavailable            69  Kafka or ClickHouse is away or overloaded: try again, nothing is lost
└── DifferenceFound         1  a check did its work and found a difference
"""


class OrgstatsError(Exception):
    """Anything that ends a command with a message instead of a stack trace."""

    exit_code = 70


class ConfigurationError(OrgstatsError):
    """A setting, flag or file is wrong; the text names each fault and its remedy."""

    exit_code = 78


class Refused(OrgstatsError):
    """Going on could make the counts wrong; the text names the repair."""

    exit_code = 78


class Unavailable(OrgstatsError):
    """Kafka or ClickHouse did not answer or is overloaded; the same call may succeed later."""

    exit_code = 69


class DifferenceFound(OrgstatsError):
    """A check ran to its end and found something that differs."""

    exit_code = 1
