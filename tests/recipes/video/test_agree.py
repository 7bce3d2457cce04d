from sparseflow.recipes.video.agree import agreement, agreement_checks


def test_every_equality_holds_and_compares_something():
    found = agreement()
    checks = agreement_checks(found)
    assert len(checks) == 4
    assert all(c.ok for c in checks)
    assert [c.bound for c in checks] == [1e-5, 1e-4, 1e-4, 1e-4]
    assert agreement(seed=1) != found
    assert not agreement_checks({"keep 1 against the plain network": 2e-5})[0].ok
