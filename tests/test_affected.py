"""What is looked for so that no record is missed that can count otherwise."""

from __future__ import annotations

from sqm.affected import widest
from sqm.terms import Related


def test_relations_that_ask_the_same_are_looked_for_once_as_far_as_any_goes():
    later = {"same": "asset_id", "event": "created_at", "after": "completed_at"}
    earlier = {"same": "asset_id", "event": "created_at", "before": "completed_at"}
    of_customer = {"same": "customer_id", "event": "created_at", "after": "completed_at"}

    found = widest(
        [
            Related(**later, within_days=14, where="status <> 'cancelled'"),
            Related(**earlier, within_days=7),
            Related(**later, within_days=30),
            Related(**of_customer, within_days=3),
            Related(**later, within_days=21),
        ]
    )

    assert found == [
        Related(**later, within_days=30),
        Related(**earlier, within_days=7),
        Related(**of_customer, within_days=3),
    ]
