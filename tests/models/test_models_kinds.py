"""Kinds of models by their config alone; the hub through a small server that speaks its protocol, over a real socket."""

import hashlib
import http.server
import json
import subprocess
import sys
import threading
from dataclasses import replace

import pytest

from mambamia_cli.errors import ModelError
from mambamia_cli.models import hub, pull, resolve
from mambamia_cli.models.kinds import NATIVE, UNIMAMBAMIA, VLM, kind_of

COMMIT = "0123456789abcdef0123456789abcdef01234567"
QWEN = {"model_type": "qwen2_5_vl", "architectures": ["Qwen2_5_VLForConditionalGeneration"], "vision_config": {}}
RELATIVE = {"model_type": "llava_qwen", "architectures": ["LlavaQwenForCausalLM"], "mm_vision_tower": "x/siglip2"}


def folder(path, config):
    path.mkdir(parents=True, exist_ok=True)
    (path / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    return path


@pytest.mark.parametrize("config, kind", [(QWEN, VLM), (RELATIVE, UNIMAMBAMIA), ({"format": "mambamia/1"}, NATIVE)])
def test_a_folder_is_told_by_its_config(tmp_path, config, kind):
    found = kind_of(str(folder(tmp_path / "m", config)))
    assert (found.kind, found.path, found.config) == (kind, tmp_path / "m", config)


def test_the_embedded_model_is_native_and_its_parts_are_no_models():
    assert kind_of("mambamia-tiny").kind == NATIVE
    for part in ("smollm2-135m-instruct", "efficientnet-lite0"):
        with pytest.raises(ModelError, match="one part of a model"):
            kind_of(part)


@pytest.mark.parametrize("config, said", [
    ("{", "cannot be read"), ("[]", "does not say mambamia/1"), ({}, "does not say mambamia/1"), ({"format": "mambamia/9"}, "mambamia/9"),
    ({"model_type": "llama", "architectures": ["LlamaForCausalLM"]}, "no model that answers questions on pictures"),
    ({"model_type": "clip", "architectures": ["CLIPModel"], "vision_config": {}}, "no model that answers"),
    ({"model_type": "own", "auto_map": {"AutoModel": "own.Own"}}, "program code of its own"),
])  # fmt: skip
def test_what_is_no_model_of_these_kinds_is_refused(tmp_path, config, said):
    with pytest.raises(ModelError, match=said):
        kind_of(str(folder(tmp_path / "m", config)))


def test_no_torch_and_no_hub_client_for_a_folder(tmp_path):
    path = folder(tmp_path / "m", QWEN)
    code = f"import sys; from mambamia_cli.models.kinds import kind_of; kind_of({str(path)!r}); kind_of('mambamia-tiny')"
    code += "; sys.exit(any(name in sys.modules for name in ('torch', 'huggingface_hub', 'transformers')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


class Hub(http.server.ThreadingHTTPServer):
    """Repositories {name: {file: bytes}} behind the three requests that the hub's client makes; `asked` lists the files read."""

    def __init__(self, repositories):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories, self.asked, self.ranges, self.commit = repositories, [], [], COMMIT


class _Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        path = self.path.partition("?")[0].strip("/")
        words = path.split("/")
        if words[:2] == ["api", "models"]:
            files = self.server.repositories.get("/".join(words[2:4]))
            if files is None:
                return self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"})
            if "tree" in words:
                rows = [{"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()} for name, data in files.items()]
                return self._json(rows)
            return self._json({"id": "/".join(words[2:4]), "sha": self.server.commit, "siblings": [{"rfilename": name} for name in files]})
        files, name = self.server.repositories.get("/".join(words[:2])), "/".join(words[4:])
        if files is None or name not in files:
            return self._send(404, b"", {"X-Error-Code": "RepoNotFound" if files is None else "EntryNotFound", "X-Repo-Commit": self.server.commit})
        if self.command == "GET":
            self.server.asked.append(name)
            if name.endswith(".safetensors") and "Range" in self.headers:
                self.server.ranges.append(self.headers["Range"])
        return self._send(200, files[name], {"ETag": f'"{hashlib.sha1(files[name]).hexdigest()}"', "X-Repo-Commit": self.server.commit})

    def _json(self, value):
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send(self, code, body, headers):
        self.send_response(code)
        for key, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)


@pytest.fixture
def server(tmp_path, monkeypatch):
    """serve({"owner/name": {file: bytes}}) -> Hub, which the hub's client in this process then talks to; its cache is empty."""
    from huggingface_hub import constants, hf_hub_download, snapshot_download  # noqa: F401  (modules that keep ENDPOINT)

    started = []

    def serve(repositories):
        started.append(Hub(repositories))
        threading.Thread(target=started[-1].serve_forever, daemon=True).start()
        at = f"http://127.0.0.1:{started[-1].server_address[1]}"
        for module in [m for name, m in list(sys.modules.items()) if name.startswith("huggingface_hub")]:
            for name, value in (("ENDPOINT", at), ("HUGGINGFACE_CO_URL_TEMPLATE", at + "/{repo_id}/resolve/{revision}/{filename}")):
                if name in vars(module):
                    monkeypatch.setattr(module, name, value)
        return started[-1]

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    yield serve
    for one in started:
        one.shutdown()
        one.server_close()


def repository(config=QWEN, **files):
    return {"config.json": json.dumps(config).encode(), "tokenizer.json": b"{}", "pytorch_model.bin": b"pickle", "run.py": b"1", **files}


def test_a_hub_id_is_told_by_its_config_and_only_that_is_fetched(server):
    at = server({"a/b": repository(**{"model.safetensors": b"w"})})
    found = kind_of("a/b")
    assert (found.kind, found.path) == (VLM, None) and at.asked == ["config.json"]


def test_fetch_takes_the_shards_of_the_index_and_no_pickle_and_no_program(server):
    index = json.dumps({"weight_map": {"x": "model-1.safetensors", "y": "model-2.safetensors"}}).encode()
    files = {"model-1.safetensors": b"1", "model-2.safetensors": b"2", "consolidated.safetensors": b"all", hub.INDEX: index}
    at = server({"a/b": repository(**files)})
    folder = hub.fetch("a/b")
    names = {path.name for path in folder.iterdir()}
    assert names == {"config.json", "tokenizer.json", hub.INDEX, "model-1.safetensors", "model-2.safetensors"}
    assert not {"pytorch_model.bin", "run.py", "consolidated.safetensors"} & set(at.asked)
    asked = len(at.asked)
    at.shutdown()
    assert hub.fetch("a/b") == resolve("a/b") == folder and len(at.asked) == asked, "what is in the cache needs no network"


def test_a_plan_fetches_headers_and_no_weights(server, tmp_path, three_cuts):
    """Of a hub id that is not here; and a run that cannot fit is refused before its weights come."""
    from fixtures import relatives, vlms

    from mambamia_cli import open_video
    from mambamia_cli.errors import OutOfMemoryError
    from mambamia_cli.plan.parts import of_kind

    for name, folder in (("a/vlm", vlms.write_vlm(tmp_path / "vlm", "smolvlm")), ("a/relative", relatives.write_relative(tmp_path / "relative", relatives.Parts()))):
        at = server({name: {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}})
        there, here = of_kind(kind_of(name), (96, 128)), of_kind(kind_of(str(folder)), (96, 128))
        assert there.sight == here.sight and there.relative == here.relative and there.language.parameters > 10_000
        assert replace(there.language, name="") == replace(here.language, name="")
        fetched = [file for file in at.asked if file.endswith(".safetensors")]
        assert sorted(fetched) == sorted(path.name for path in folder.glob("*.safetensors")) and len(at.ranges) == len(fetched), "a header each"
        video = open_video(three_cuts.path, model=name, device="cpu", ram_limit="100MiB")
        with pytest.raises(OutOfMemoryError, match="--ram-limit 100MiB"):
            video.ask("what?")
        assert set(at.ranges) == {"bytes=0-100000"} and not list((tmp_path / "hub").rglob("*.safetensors"))


def test_pull_asks_the_network_for_what_is_new(server):
    at = server({"a/b": repository(**{"model.safetensors": b"w"})})
    folder = pull("a/b")
    at.repositories["a/b"]["vocab.json"] = b"{}"
    assert resolve("a/b") == folder and not (folder / "vocab.json").exists()
    at.commit = COMMIT[::-1]
    assert (pull("a/b") / "vocab.json").exists() and not (folder / "vocab.json").exists()


def test_a_model_of_ours_is_fetched_with_all_its_parts(server, tiny_model):
    files = {str(p.relative_to(tiny_model)): p.read_bytes() for p in tiny_model.rglob("*") if p.is_file()}
    files |= {"compressor/model.bin": b"pickle", "other/model.safetensors": b"no part: it has no config.json"}
    at = server({"me/tiny": files})
    from mambamia_cli.models.folder import read_folder

    assert kind_of("me/tiny").kind == NATIVE
    folder = read_folder("me/tiny")
    assert folder.name == "tiny" and (folder.part("projector") / "model.safetensors").is_file()
    assert not [name for name in at.asked if name.endswith(".bin") or name.startswith("other")]


def test_pickles_are_refused_unless_they_are_asked_for(server):
    server({"a/b": repository()})
    for ask in (hub.fetch, hub.outline):
        with pytest.raises(ModelError, match="no safetensors weights.*--allow-pickle"):
            ask("a/b")
    assert (hub.fetch("a/b", allow_pickle=True) / "pytorch_model.bin").read_bytes() == b"pickle"


def test_an_unknown_id_and_one_without_a_config(server):
    server({"a/b": {"readme.md": b""}})
    with pytest.raises(ModelError, match="no model a/c, neither a folder nor on the hub"):
        kind_of("a/c")
    with pytest.raises(ModelError, match="has no config.json"):
        kind_of("a/b")


@pytest.mark.parametrize("offline", [True, False])
def test_without_a_network_it_is_one_sentence_at_once(server, monkeypatch, offline):
    from huggingface_hub import constants

    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
    monkeypatch.setattr(constants, "ENDPOINT", "https://hub.invalid")
    for ask in (kind_of, resolve, hub.fetch):
        with pytest.raises(ModelError, match="the hub cannot be reached; check the network"):
            ask("a/b")
    with pytest.raises(ModelError, match="run: mambamia models pull a/b"):
        resolve("a/b", download=False)


@pytest.mark.parametrize("name", ["a/b/c", "/a/b", "./a", "a b/c", "a", "-a/b", "a/"])
def test_what_is_no_hub_id_is_never_asked_for(name):
    assert hub.local(name)
    with pytest.raises(ModelError, match="there is no model"):
        kind_of(name)
