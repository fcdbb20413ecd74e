"""A dataset with what does not belong there: one sentence for each, and nothing is lost."""

from needs import needs

needs("fsspec", "pyarrow")

import builtins
import os
import shutil

import pyarrow as pa
import pytest
from fleets import MADE, append_all, named
from fsspec.registry import known_implementations
from pyarrow import parquet

from cnnperf.cli import main
from cnnperf.errors import CnnperfError, RunFileError
from cnnperf.runs import load_runs, read_runs
from cnnperf.runs.choose import choose_runs
from cnnperf.runs.fleet import append


@pytest.fixture
def place(tmp_path):
    """Make a dataset of four runs of three machines."""
    place = tmp_path / "runs"
    append_all(place, named(range(4)))
    return place


def first_file(place):
    return min(place.rglob("*.parquet"))


def rewrite(path, change):
    table = parquet.read_table(path, partitioning=None)
    parquet.write_table(change(table), path)


def with_column(table, name, values):
    return table.set_column(table.schema.get_field_index(name), name, values)


def of_version(number):
    return lambda table: with_column(table, "schema", pa.array([number] * len(table), pa.int32()))


def of_the_future(table):
    """Return a table whose columns changed their meaning and type as well."""
    return with_column(of_version(7)(table), "value", pa.array(["fast"] * len(table)))


def of_other_names(table):
    """Return a table none of whose rows anything that is asked of this layout would find."""
    names = {"metric": "measure", "row": "line"}
    return of_version(2)(table).rename_columns([names.get(name, name) for name in table.column_names])


def with_new_axis(table):
    return with_column(table, "axes", pa.array(["architecture sparsity"] * len(table)))


DAMAGES = {
    "cut short": (lambda path: path.write_bytes(path.read_bytes()[:-100]), "cut short, or no Parquet file; move it"),
    "empty": (lambda path: path.write_bytes(b""), "cut short, or no Parquet file; move it away"),
    "of text": (lambda path: path.write_text("run,time,commit\n" * 9), "cut short, or no Parquet file; move it away"),
    "overwritten": (
        lambda path: path.write_bytes(b"PAR1" + b"\xff" * 3000 + path.read_bytes()[3004:]),
        "cut short, or no Parquet file; move it away",
    ),
    "of a newer layout": (lambda path: rewrite(path, of_version(2)), "layout 2, .* reads up to 1; upgrade cnnperf"),
    "of the future": (lambda path: rewrite(path, of_the_future), "layout 7, .* reads up to 1; upgrade cnnperf"),
    "of a newer axis": (lambda path: rewrite(path, with_new_axis), "the axis 'sparsity', .*; upgrade cnnperf"),
    "of something else": (
        lambda path: parquet.write_table(pa.table({"metric": ["latency"], "row": [0]}), path),
        "not a file that cnnperf wrote; move it away",
    ),
    "of other columns": (
        lambda path: parquet.write_table(pa.table({"x": ["y"]}), path),
        "not a file that cnnperf wrote; move it away",
    ),
    "of a layout that names its rows otherwise": (
        lambda path: rewrite(path, of_other_names),
        "layout 2, .* reads up to 1; upgrade cnnperf",
    ),
}


@pytest.mark.parametrize("what", DAMAGES)
def test_a_file_that_cannot_be_read_is_named_with_what_to_do(place, what):
    damage, message = DAMAGES[what]
    path = first_file(place)
    damage(path)
    for read in (load_runs, read_runs):
        with pytest.raises(RunFileError, match=f"{path.name}: .*{message}") as told:
            read(place)
        assert "\n" not in str(told.value)


@pytest.mark.parametrize("what", DAMAGES)
def test_what_does_not_touch_a_damaged_file_goes_on(place, what):
    DAMAGES[what][0](first_file(place))
    assert load_runs(place, where={"machine": "Made CPU 2"})["run"].nunique() == 1
    assert append_all(place, named(range(6))) == [False] * 4 + [True] * 2


def test_a_damaged_file_moved_away_is_whole_again_after_another_export(place):
    expected = load_runs(place)
    path = first_file(place)
    path.write_bytes(b"PAR1")
    path.rename(path.with_suffix(".damaged"))
    assert sorted(append_all(place, named(range(4)))) == [False, False, False, True]
    assert load_runs(place).equals(expected)


def test_what_is_no_file_of_the_layout_is_not_looked_at(place):
    expected = load_runs(place)
    folder = first_file(place).parent
    for name in (".abc.parquet.unfinished", "_SUCCESS", "_x.parquet", ".x.parquet", "notes.txt"):
        (folder / name).write_text("half")
    (place / "README").touch()
    (place / "other").mkdir()
    assert load_runs(place).equals(expected)


def test_a_dataset_from_before_an_axis_existed_is_read_with_its_default(place):
    expected = load_runs(place)
    for path in place.rglob("*.parquet"):
        rewrite(path, lambda table: table.drop_columns(["image_size", "layout"]))
    found = load_runs(place)
    assert found.equals(expected.astype(found.dtypes))
    for where in ({"image_size": 32}, {"layout": "contiguous"}):
        assert len(load_runs(place, where=where)) == len(expected)
    for where in ({"image_size": 64}, {"layout": ["channels_last"]}):
        assert load_runs(place, where=where).empty
    assert choose_runs("latest", place)[0][0] == expected["run"].iloc[-1]


@pytest.mark.parametrize(
    ("url", "message"),
    [
        (
            "nowhere://bucket/runs",
            "the scheme 'nowhere' is unknown; allowed are file, s3, gs, and those of fsspec",
        ),
        ("s3://", "a URL needs a path, such as s3://bucket/folder"),
        ("lost://host/runs", "cannot be opened: install the package lost"),
        ("file://host/runs", "cannot be opened: Unsupported hostname in non-Windows local URI"),
    ],
)
def test_a_url_that_cannot_be_used_is_told_in_one_line(tmp_path, monkeypatch, capsys, url, message):
    fault = {"class": "lost_package.FileSystem", "err": "install the package lost"}
    monkeypatch.setitem(known_implementations, "lost", fault)
    MADE.write(tmp_path)
    for arguments in (["export", str(tmp_path), "--parquet", url], ["history", "--runs", url]):
        assert main(arguments) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"cnnperf: {url}: ")
        assert message in line


def test_a_folder_of_run_files_is_not_made_a_dataset(tmp_path):
    MADE.write(tmp_path)
    with pytest.raises(
        RunFileError, match=r"not a dataset, it holds other things \(0001_made.json\); name a new or an"
    ):
        append_all(tmp_path, named([0]))
    assert len(read_runs(tmp_path)) == MADE.runs


def test_a_file_where_a_folder_is_needed_is_told(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(RunFileError, match="file: cannot be written to: Not a directory"):
        append_all(tmp_path / "file", named([0]))


def test_where_there_is_nothing_it_is_told_how_to_append(tmp_path):
    with pytest.raises(RunFileError, match="none: no such file or directory"):
        load_runs((tmp_path / "none").as_uri())
    with pytest.raises(RunFileError, match=r"no runs in it; `cnnperf export --parquet memory://none` appends some"):
        load_runs("memory://none")


def test_a_folder_of_run_files_is_read_by_its_url_too(tmp_path):
    MADE.write(tmp_path)
    assert load_runs(tmp_path.as_uri()).equals(load_runs(tmp_path))


def test_a_place_that_must_not_be_written_to_is_told(place, monkeypatch):
    def forbid(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(append, "_put", forbid)
    with pytest.raises(RunFileError, match="runs: cannot be written to: Permission denied"):
        append_all(place, named([5]))
    assert load_runs(place)["run"].nunique() == 4


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read and write everywhere")
def test_permissions_of_folders_are_told(place):
    folder = first_file(place).parent
    folder.chmod(0o000)
    try:
        with pytest.raises(RunFileError, match="Permission denied"):
            load_runs(place)
        with pytest.raises(RunFileError, match="Permission denied"):
            append_all(place, named(range(4)))
    finally:
        folder.chmod(0o700)


@pytest.mark.parametrize("content", ['{"benchmarks": 5, "cnnperf": {}}', '{"benchmarks": [{"na'])
def test_a_damaged_run_file_is_named_and_the_others_are_appended(tmp_path, capsys, content):
    MADE.write(tmp_path / "saved")
    (tmp_path / "saved" / "0000_bad.json").write_text(content)
    assert main(["export", str(tmp_path / "saved"), "--parquet", str(tmp_path / "runs")]) == 2
    told = capsys.readouterr()
    assert f"{MADE.runs} runs appended" in told.out
    assert "0000_bad.json: " in told.err
    assert load_runs(tmp_path / "runs")["run"].nunique() == MADE.runs


def test_one_thing_is_exported_at_a_time(tmp_path, capsys):
    assert main(["export", "--parquet", str(tmp_path), "--format", "csv"]) == 2
    assert "--parquet appends to a dataset, --format and --out write a file" in capsys.readouterr().err


def test_without_pyarrow_the_extra_is_named(place, monkeypatch):
    real = builtins.__import__

    def importing(name, *arguments, **named):
        if name.startswith("pyarrow"):
            raise ImportError(name, name=name)
        return real(name, *arguments, **named)

    monkeypatch.setattr(builtins, "__import__", importing)
    with pytest.raises(CnnperfError, match=r"needs the package pyarrow; pip install 'cnnperf\[history\]'"):
        load_runs(place)


def test_a_partition_copied_alone_is_a_dataset(place, tmp_path):
    machine = next(place.iterdir())
    shutil.copytree(machine, tmp_path / "part" / machine.name)
    assert load_runs(tmp_path / "part")["machine"].nunique() == 1
