"""The CPU's energy counters, in made folders."""

import pytest

from cnnperf.measure.rapl import Rapl
from cnnperf.measure.sampler import Schedule, sample
from cnnperf.testing import ScriptedClock, ScriptedSubject


def zone(root, number, name, energy, span=1_000_000):
    folder = root / f"intel-rapl:{number}"
    folder.mkdir(parents=True, exist_ok=True)
    for key, value in (("name", name), ("energy_uj", energy), ("max_energy_range_uj", span)):
        (folder / key).write_text(f"{value}\n")


def test_packages_are_added_and_their_parts_are_not(tmp_path):
    for number, name in enumerate(["package-0", "core", "package-1", "dram"]):
        zone(tmp_path, number, name, 100)
    rapl = Rapl.find(tmp_path)
    for number, name in enumerate(["package-0", "core", "package-1", "dram"]):
        zone(tmp_path, number, name, 600_100)
    assert rapl.joules() == pytest.approx(1.2)


def test_a_counter_that_begins_again_goes_on(tmp_path):
    zone(tmp_path, 0, "package-0", 900_000)
    rapl = Rapl.find(tmp_path)
    zone(tmp_path, 0, "package-0", 99_999)
    assert rapl.joules() == pytest.approx(0.2)
    zone(tmp_path, 0, "package-0", 199_999)
    assert rapl.joules() == pytest.approx(0.3)


def test_without_counters_or_the_right_to_read_them_there_is_no_energy(tmp_path):
    assert Rapl.find(tmp_path) is None
    zone(tmp_path, 0, "package-0", "no number")
    assert Rapl.find(tmp_path) is None
    (tmp_path / "intel-rapl:0" / "energy_uj").unlink()
    assert Rapl.find(tmp_path) is None


class Meter:
    """Counts a joule each time it is read after a group of rounds."""

    def __init__(self):
        self.count = 0.0

    def joules(self):
        self.count += 1
        return self.count


def test_each_group_but_the_first_has_the_energy_of_one_of_its_rounds():
    samples = sample(ScriptedSubject(), ScriptedClock(1e-3), Schedule(budget=0.1), Meter())
    assert len(samples.energy) == len(samples.groups) - 1
    assert samples.energy == [1 / len(group) for group in samples.groups[1:]]
    assert sample(ScriptedSubject(), ScriptedClock(1e-3), Schedule(budget=0.1)).energy == []
