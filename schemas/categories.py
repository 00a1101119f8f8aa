"""Names of data categories, as Sentry publishes them: `relay-base-schema/src/data_category.rs` of its Relay.

What is stored is the number, so that a category without a name here is counted all the same.
"""

from typing import Final

from orgstats.schemas.outcomes import STAT_CATEGORIES

ERROR: Final = 1
ATTACHMENT: Final = 4

CATEGORY_NAMES: Final = {
    0: "default",
    ERROR: "error",
    2: "transaction",
    3: "security",
    ATTACHMENT: "attachment",
    5: "session",
    6: "profile",
    7: "replay",
    8: "transaction_processed",
    9: "transaction_indexed",
    10: "monitor",
    11: "profile_indexed",
    12: "span",
    13: "monitor_seat",
    14: "feedback",
    15: "metric_bucket",
    16: "span_indexed",
    17: "profile_duration",
}


def category_name(category: int) -> str:
    """The name that usage is shown by: `error` for all three error categories, `category 40` for one without a name."""
    if category in STAT_CATEGORIES:
        return CATEGORY_NAMES[ERROR]
    return CATEGORY_NAMES.get(category, f"category {category}")


def categories_named(name: str) -> tuple[int, ...]:
    """The numbers shown by this name; of `default` and `security`, their own. None for an unknown name."""
    shown = tuple(category for category in range(256) if category_name(category) == name)
    return shown or tuple(category for category, own in CATEGORY_NAMES.items() if own == name)
