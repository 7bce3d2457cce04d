from sparseflow.ops.formats import bcsr, coo, csc, csr, dcsr, dia, ell, refusal, sell


def test_all_are_valid() -> None:
    for fmt in (csr(), csc(), dcsr(), coo(), bcsr(4, 2), ell(), sell(8, 16), dia()):
        assert refusal(fmt) is None


def test_sigma_of_one_leaves_rows_in_their_order() -> None:
    assert sell(8, 1).rows is None
    assert sell(8, 0).rows.window == 0
