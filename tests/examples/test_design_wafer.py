from examples import design_wafer


def test_the_example_saves_energy_and_time(capsys):
    figures = design_wafer.main()
    assert figures["edp"] > 0
    assert "slot 0" in capsys.readouterr().out
