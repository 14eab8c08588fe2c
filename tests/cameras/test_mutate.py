from mutate import campaign


def test_junk_in_header_cards_is_understood_or_refused_in_one_line():
    failures = []
    counter = campaign(150, seed=2026, report=lambda *failure: failures.append(failure))
    assert failures == []
    assert counter["understood"] > 30 and counter["refused"] > 10
