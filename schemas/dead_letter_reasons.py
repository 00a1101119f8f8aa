"""Why a record is a dead letter: the codes that are stored with it."""

from enum import StrEnum


class ReasonCode(StrEnum):
    """Why a record is a dead letter; the first that applies, in this order. Operators filter on it."""

    empty = "empty"
    too_large = "too_large"
    not_json = "not_json"
    not_an_object = "not_an_object"
    timestamp_missing = "timestamp_missing"
    timestamp_invalid = "timestamp_invalid"
    outcome_invalid = "outcome_invalid"
    field_invalid = "field_invalid"
