from fuzz import campaign


def test_damaged_files_are_processed_or_refused_and_nothing_else():
    failures = []
    counter = campaign(200, seed=2026, report=lambda *failure: failures.append(failure))
    assert failures == []
    # The damage is neither too light nor too heavy to test anything.
    assert counter["processed"] > 20 and counter["refused"] > 80
