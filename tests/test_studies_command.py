"""`cnnperf study` and `cnnperf tour`, as a person types them."""

import subprocess
import sys

import pandas as pd
import pytest

from cnnperf.cli import main
from cnnperf.models.catalog import create
from cnnperf.studies import contrast

pytestmark = pytest.mark.slow


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def written(folder, name):
    return {path.name for path in folder.iterdir()} >= {f"{name}.{ending}" for ending in ("csv", "md", "svg", "png")}


def test_gradient_flow_answers_with_table_samples_and_figure(here, capsys):
    assert main(["study", "gradient-flow", "--depths", "2,4,6", "--seeds", "3", "--out", "out"]) == 0
    out = capsys.readouterr().out
    assert "The gradient of the plain stack explodes towards the input: 1.2" in out
    assert "| verdict" in out
    assert written(here / "out", "gradient-flow")
    frame = pd.read_csv(here / "out" / "gradient-flow.csv")
    assert len(frame) == 2 * 3 * (3 + 5 + 7)
    assert set(frame["family"]) == {"plain", "residual"}
    assert "in theory 1.2112" in (here / "out" / "gradient-flow.svg").read_text()


def test_without_normalisation_no_theory_is_drawn(here, capsys):
    given = ["--depths", "2,5,8", "--seeds", "5", "--normalization", "none"]
    assert main(["study", "gradient-flow", *given]) == 0
    assert "The gradient of the plain stack vanishes" in capsys.readouterr().out
    assert "theory" not in (here / "studies" / "gradient-flow.svg").read_text()


def test_a_study_of_training_goes_on_where_it_was(here, capsys, monkeypatch):
    given = ["study", "pooling", "--epochs", "1", "--out", "out"]
    assert main([*given, "--seeds", "2"]) == 0
    assert "over 2 seeds" in capsys.readouterr().out
    assert written(here / "out", "pooling")
    trained = []
    real = contrast.train
    monkeypatch.setattr(contrast, "train", lambda *given, **named: trained.append(given[3]) or real(*given, **named))
    assert main([*given, "--seeds", "3"]) == 0
    assert trained == [0, 0, 2, 2]  # two to warm up
    assert "over 3 seeds" in capsys.readouterr().out
    assert main([*given, "--seeds", "3", "--epochs", "2"]) == 2
    assert "epochs was 1, now 2" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "after", "told"),
    [
        (
            [],
            2,
            "1 finished seed is saved in studies/pooling.seeds.jsonl; the same command resumes from there",
        ),
        (["--restart"], 2, "the same command without --restart resumes"),
        ([], 0, "cnnperf: interrupted\n"),
    ],
)
def test_an_interrupt_says_what_is_kept(here, capsys, monkeypatch, more, after, told):
    real, calls = contrast.train, []

    def interrupted(*given, **named):
        calls.append(given)
        if len(calls) > after:
            raise KeyboardInterrupt
        return real(*given, **named)

    monkeypatch.setattr(contrast, "_warm_up", lambda *_: None)
    monkeypatch.setattr(contrast, "train", interrupted)
    assert main(["study", "pooling", "--epochs", "1", *more]) == 130
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["gradient-flow", "--depths", "5"], "--depths takes at least 2 different numbers of blocks"),
        (["gradient-flow", "--depths", "5,x"], "--depths takes whole numbers such as 5,10,20,30, not '5,x'"),
        (["gradient-flow", "--depths", "0,5"], "num_blocks is at least 1"),
        (["gradient-flow", "--seeds", "0"], "--seeds at least 1"),
        (["gradient-flow", "--device", "tpu"], "--device takes auto, cpu, cuda or cuda:N, not 'tpu'"),
        (["pooling", "--seeds", "0"], "--seeds is at least 1, not 0"),
        (["pooling", "--epochs", "-1"], "--epochs is at least 1, not -1"),
        (["pooling", "--minutes", "0"], "--minutes is above 0, not 0"),
        (["pooling", "--minutes", "nan"], "--minutes is above 0, not nan"),
        (["squeeze-excitation", "--width", "2"], "--width is at least 4, not 2"),
        (["squeeze-excitation", "--width", "0"], "--width is at least 4, not 0"),
        (["depth", "--blocks", "0"], "--blocks and --channels are at least 1"),
    ],
)
def test_what_cannot_be_studied_is_one_sentence_before_anything_is_made(here, capsys, given, told):
    assert main(["study", *given]) == 2
    assert told in capsys.readouterr().err
    assert not (here / "studies").exists()


@pytest.mark.parametrize("package", ["altair", "tabulate", "tqdm", "vl_convert"])
def test_a_missing_package_is_named_with_its_extra(here, monkeypatch, capsys, package):
    monkeypatch.setitem(sys.modules, package, None)
    assert main(["study", "gradient-flow", "--depths", "1,2", "--seeds", "1"]) == 2
    assert f"needs the package {package}; pip install 'cnnperf[study]'" in capsys.readouterr().err


@pytest.mark.parametrize("out", ["file", "file/below"])
@pytest.mark.parametrize("name", ["gradient-flow", "pooling"])
def test_results_that_could_not_be_written_are_refused_before_the_work(here, monkeypatch, capsys, name, out):
    (here / "file").touch()
    monkeypatch.setitem(sys.modules, "cnnperf.studies.run", None)  # whoever began would fail
    assert main(["study", name, "--out", out]) == 2
    assert f"--out {out}: " in (err := capsys.readouterr().err)
    assert "is not a writable folder" in err


@pytest.mark.parametrize("name", ["gradient-flow", "pooling", "squeeze-excitation", "depth"])
def test_each_study_has_a_help_with_its_defaults(capsys, name):
    with pytest.raises(SystemExit, match="0"):
        main(["study", name, "--help"])
    assert "(default: 10)" in " ".join(capsys.readouterr().out.split())


def test_the_tour_tells_shapes_and_parameters_of_the_networks_themselves():
    done = subprocess.run([sys.executable, "-m", "cnnperf", "tour"], capture_output=True, text=True, check=True)
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    places = [lines.index(next(line for line in lines if line.startswith(f"{number}. "))) for number in (1, 2, 3, 4)]
    assert places == sorted(places)
    for name in ("lenet5", "resnet18"):
        assert f"{sum(one.numel() for one in create(name).parameters()):,} parameters in all" in lines
    assert "max pooling 2x2 6 x 14 x 14 0" in lines
    assert "residual block, two convolutions 3x3 512 x 4 x 4 4,720,640" in lines
    assert max(map(len, done.stdout.splitlines())) <= 100


def test_networks_of_the_same_depth_and_other_channels_have_memories_of_their_own(here, capsys):
    peaks = []
    for channels in ("4", "8"):
        given = ["--blocks", "1", "--channels", channels, "--epochs", "1", "--seeds", "1", "--out", channels]
        assert main(["study", "depth", *given]) == 0
        (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| peak memory")]
        peaks.append(line.split("|")[2].strip())
    assert peaks[0] != peaks[1]
