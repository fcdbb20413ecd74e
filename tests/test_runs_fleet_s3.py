"""A dataset in S3, against a server on loopback that speaks its protocol."""

from needs import needs

needs("boto3", "fsspec", "moto.server", "pyarrow")

import socket
import uuid
from concurrent.futures import ThreadPoolExecutor

import boto3
import pytest
from fleets import MADE, append_all, named
from moto.server import ThreadedMotoServer

import cnnperf
from cnnperf.cli import main
from cnnperf.runs import load_runs, read_runs
from cnnperf.runs.fleet.location import open_location

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server():
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(server, monkeypatch):
    """Make a bucket and return its URL; the environment is that of someone who uses a server of their own."""
    for name, value in (("ACCESS_KEY_ID", "key"), ("SECRET_ACCESS_KEY", "secret"), ("DEFAULT_REGION", "eu-west-1")):
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", server)
    name = f"fleet-{uuid.uuid4().hex}"
    boto3.client("s3").create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    return name


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    MADE.write(folder)
    return folder


def keys(bucket):
    return [entry["Key"] for entry in boto3.client("s3").list_objects_v2(Bucket=bucket).get("Contents", [])]


def test_runs_go_there_once_and_come_back(bucket, folder, capsys):
    url = f"s3://{bucket}/perf/runs"
    command = ["export", "--runs", str(folder), "--parquet", url]
    assert main(command) == main(command) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{url}: 12 runs appended, 0 were there already",
        f"{url}: 0 runs appended, 12 were there already",
    ]
    assert len(keys(bucket)) == 12
    found = load_runs(url)
    assert found.drop(columns="run").to_csv() == load_runs(folder).drop(columns="run").to_csv()
    chosen = load_runs(url, where={"machine": "Made CPU 2", "metric": "throughput"}, since="2026-01-05")
    assert set(chosen["commit"]) == {"0000000500", "0000000800", "0000000b00"}


def test_history_and_summary_read_it_as_a_folder(bucket, folder, capsys):
    url = f"s3://{bucket}/runs"
    main(["export", "--runs", str(folder), "--parquet", url])
    columns = ["time", "commit", "value"]
    assert cnnperf.history(url)[columns].equals(cnnperf.history(folder)[columns])
    capsys.readouterr()
    assert main(["show", "latest", "--runs", url]) == 0
    assert "/0012_made" in capsys.readouterr().out


def test_many_writers_at_once_lose_nothing_and_duplicate_nothing(bucket):
    url = f"s3://{bucket}/runs"

    def write(first):
        numbers = [(first + number) % MADE.runs for number in range(6)]
        return append_all(url, named(numbers))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(8)))
    assert len(keys(bucket)) == len(read_runs(url)) == MADE.runs


def test_a_bucket_that_is_not_there_is_told(bucket, folder, capsys):
    assert main(["export", "--runs", str(folder), "--parquet", "s3://no-such-bucket/runs"]) == 2
    assert capsys.readouterr().err == (
        "cnnperf: s3://no-such-bucket/runs: cannot be written to: there is no such bucket; make it first\n"
    )
    assert main(["history", "--runs", "s3://no-such-bucket/runs"]) == 2
    assert "no runs in it" in capsys.readouterr().err


def test_a_server_that_does_not_answer_is_told(bucket, folder, monkeypatch, capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: it refuses
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{taken.getsockname()[1]}")
        assert main(["export", "latest", "--runs", str(folder), "--parquet", f"s3://{bucket}/runs"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "the server cannot be reached; check the network, and AWS_ENDPOINT_URL" in line


@pytest.mark.parametrize("code", ["ACCESS_DENIED", "INVALID_ACCESS_KEY_ID", "SIGNATURE_DOES_NOT_MATCH"])
def test_credentials_that_are_refused_are_told(bucket, code):
    said = f"When listing objects in bucket 'b': AWS Error {code} during ListObjectsV2 operation: Denied\nmore"
    location = open_location(f"s3://{bucket}/runs")
    match = "cannot be read: access is denied; check the credentials"
    with pytest.raises(cnnperf.CnnperfError, match=match) as told, location.telling("cannot be read"):
        raise OSError(said)
    assert "\n" not in str(told.value)
