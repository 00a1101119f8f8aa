"""Every word spoken with ClickHouse by the consumer and its operators."""
