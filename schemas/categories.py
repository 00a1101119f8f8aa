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
    18: "profile_chunk",
    19: "metric_second",
    20: "replay_video",
    21: "uptime",
    22: "attachment_item",
    23: "log_item",
    24: "log_byte",
    25: "profile_duration_ui",
    26: "profile_chunk_ui",
    27: "seer_autofix",
    28: "seer_scanner",
    29: "prevent_user",
    30: "prevent_review",
    31: "size_analysis",
    32: "installable_build",
    33: "trace_metric",
    34: "seer_user",
    35: "profile_backend",
    36: "profile_ui",
}

_PLURALS: Final = {"replays": "replay", "profiles": "profile"}  # what clients made from the published summary ask for


def category_name(category: int) -> str:
    """The name that usage is shown by: `error` for all three error categories, `category 40` for one without a name."""
    if category in STAT_CATEGORIES:
        return CATEGORY_NAMES[ERROR]
    return CATEGORY_NAMES.get(category, f"category {category}")


def categories_named(name: str) -> tuple[int, ...]:
    """The numbers shown by this name; of `default` and `security`, their own. None for an unknown name."""
    name = _PLURALS.get(name, name)
    shown = tuple(category for category in range(256) if category_name(category) == name)
    return shown or tuple(category for category, own in CATEGORY_NAMES.items() if own == name)
