"""The HTTP contract as tests, against any server.

By default a server of their own is started over the engine. Against another one:

    ORGSTATS_CONFORMANCE_URL=http://127.0.0.1:8000     its base URL
    ORGSTATS_CONFORMANCE_TOKEN=ost_…                   a token that may read ...
    ORGSTATS_CONFORMANCE_ORG=the-interstellar-jurisdiction    ... this organization
    ORGSTATS_CONFORMANCE_ORG_ID=1                      its id                                     (optional)
    ORGSTATS_CONFORMANCE_OTHER_ORG=acme                an organization the token may not read     (optional)
    ORGSTATS_CONFORMANCE_EVERY_TOKEN=ost_…             a token that may read every organization   (optional)
    pytest tests/conformance

What needs data of its own, or an optional value that is not given, is skipped with the reason.
"""
