"""Programs that do, or do part of, the job of `orgstats consume`: each is run by itself and tells its own time."""
