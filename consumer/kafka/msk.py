"""Amazon MSK with IAM: a token of AWS' own signer, as OAUTHBEARER asks for it.

https://github.com/aws/aws-msk-iam-sasl-signer-python. librdkafka asks for a token on a thread of its own, when a client
is made and whenever four fifths of a token's time are over.
"""

from collections.abc import Callable
from typing import Any

TokenCallback = Callable[[str], tuple[str, float]]
"""Takes librdkafka's sasl.oauthbearer.config; a token, and until when it is valid, epoch seconds."""


def properties(region: str) -> dict[str, Any]:
    """What a client needs for a cluster in this region.

    Raises ModuleNotFoundError without the extra `msk`. A token that cannot be had, as without credentials, is an error
    that librdkafka tells, and it asks again.
    """
    return {"security.protocol": "SASL_SSL", "sasl.mechanism": "OAUTHBEARER", "oauth_cb": _callback(region)}


def _callback(region: str) -> TokenCallback:
    from aws_msk_iam_sasl_signer import MSKAuthTokenProvider

    def token(_config: str) -> tuple[str, float]:
        text, valid_until_ms = MSKAuthTokenProvider.generate_auth_token(region)
        return text, valid_until_ms / 1000

    return token
