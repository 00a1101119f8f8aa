"""Every word spoken with Kafka."""
