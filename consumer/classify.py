"""What becomes of an event nobody has judged yet: the rules in force at its Kafka timestamp decide."""

from schemas.rule_history import RuleHistory, RulesEntry

__all__ = ["RuleHistory", "RulesEntry"]
