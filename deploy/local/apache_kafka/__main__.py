"""`python -m orgstats.deploy.local.apache_kafka`: a broker on loopback until SIGTERM; one JSON line says where."""

import json
import signal
import sys
import tempfile
from pathlib import Path

from orgstats.deploy.local import apache_kafka
from orgstats.errors import OrgstatsError


def main() -> int:
    """Run the broker; the exit status is that of the error, if any."""
    signals = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    with tempfile.TemporaryDirectory(prefix="orgstats-kafka-") as directory:
        try:
            broker = apache_kafka.start(Path(directory), port=int(sys.argv[1]) if sys.argv[1:] else 0)
        except OrgstatsError as error:
            print(error, file=sys.stderr)
            return error.exit_code
        print(json.dumps({"bootstrap_servers": broker.bootstrap_servers, "pid": broker.pid}), flush=True)
        signal.sigwait(signals)
        broker.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
