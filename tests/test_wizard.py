"""The wizard: its file loads, its answers are checked at once, and nothing is written over unasked."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import create_config as script
from pipeline import wizard
from pipeline.config import Config, load_config
from pipeline.console import FAILED, WRONG_USAGE
from pipeline.errors import ConfigError
from pipeline.wizard import KEYS, commented, create_config

ROOT = Path(__file__).resolve().parents[1]


class Person:
    """Answers by key, each key's answers in turn; takes the default where there are none left. Keeps the prompts."""

    def __init__(self, **answers: list[str]) -> None:
        self.answers: dict[str, Iterator[str]] = {key: iter(lines) for key, lines in answers.items()}
        self.prompts: list[str] = []

    def __call__(self, prompt: str) -> str:
        self.prompts.append(prompt)
        key = prompt.split()[0].split(".")[1].removesuffix(":")
        return next(self.answers.get(key, iter(())), "")


def write(path: Path, **answers: list[str]) -> Config:
    create_config(Config(), path, Person(**answers))
    return load_config(path)


def elsewhere(config: Config) -> dict[str, Any]:
    """All but what is of one region alone."""
    data = config.dump() | {"experiment": ""}
    for section, name in (("paths", "dst_dataset"), ("paths", "web_crawl_output_json"), ("web_crawl", "base_url")):
        del data[section][name]
    return data


# the file -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", ["config.yaml", "configs/demo.yaml", "configs/haute_garonne_insecta.yaml"])
def test_the_file_loads_to_what_it_started_from(tmp_path: Path, start: str) -> None:
    begun = load_config(ROOT / start)
    create_config(begun, tmp_path / "pyrenees.yaml", ask=None)
    made = load_config(tmp_path / "pyrenees.yaml")
    assert made.experiment == "pyrenees"
    assert made.paths.dst_dataset == begun.paths.dst_dataset.parent / "pyrenees"
    assert made.paths.web_crawl_output_json is None
    assert made.web_crawl.base_url == ""
    assert elsewhere(made) == elsewhere(begun)


def test_what_was_given_for_the_new_region_stays(tmp_path: Path) -> None:
    given = ["paths.dst_dataset=here", "web_crawl={base_url: 'http://x/?page='}"]
    begun = load_config(ROOT / "config.yaml", given)
    made = create_config(begun, tmp_path / "pyrenees.yaml", ask=None, overrides=given)
    assert made.paths.dst_dataset == Path("here")
    assert made.web_crawl == begun.web_crawl
    assert made.paths.web_crawl_output_json is None


def test_the_file_uses_the_users_names_and_explains_each_key(tmp_path: Path) -> None:
    create_config(Config(), tmp_path / "new.yaml", ask=None)
    text = (tmp_path / "new.yaml").read_text(encoding="utf-8")
    assert "\nglobal:\n" in text
    assert "global_" not in text
    [line] = [line for line in text.splitlines() if line.strip().startswith("train_size:")]
    assert line.split("  # ")[1] == "share of the photos to train on"


def test_odd_values_survive_the_file(tmp_path: Path) -> None:
    answers = {
        "src_dataset": ["/données/a: b # c"],
        "included_classes": ["'quoted', no ,[x]"],
        "base_url": ["http://x/#?a=1&b="],
    }
    made = write(tmp_path / "odd.yaml", **answers)
    assert made.paths.src_dataset == Path("/données/a: b # c")
    assert made.global_.included_classes == ["'quoted'", "no", "[x]"]
    assert made.web_crawl.base_url == "http://x/#?a=1&b="


def test_every_line_of_the_file_is_yaml_that_means_the_same_without_its_comments() -> None:
    text = commented(Config())
    assert Config.model_validate(yaml.safe_load(text)) == Config()
    assert max(map(len, text.splitlines())) < 200


# the questions ------------------------------------------------------------------------------------------------------


def test_it_asks_its_questions_with_their_defaults(tmp_path: Path) -> None:
    person = Person()
    create_config(load_config(ROOT / "config.yaml"), tmp_path / "new.yaml", person)
    assert len(person.prompts) == len(KEYS) == 15
    assert person.prompts[0] == "global.included_classes (groups to use: folder names) [Aves,Insecta]: "
    assert person.prompts[1].endswith(" [false]: ")
    assert person.prompts[-1].endswith(" [0.5]: ")
    for key, prompt in zip(KEYS, person.prompts, strict=True):
        assert prompt.startswith(key)


def test_answers_are_read_as_people_write_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    made = write(
        tmp_path / "new.yaml", included_classes=[" Aves , Insecta,Fungi "], verbose=["Yes"], overwrite=["0"],
        src_dataset=["~/photos"], web_crawl_output_json=["None"], delay_between_requests=["1.5"], train_size=[".7"],
        random_state=["0"], dominant_threshold=["1"],
    )  # fmt: skip
    assert made.global_.included_classes == ["Aves", "Insecta", "Fungi"]
    assert (made.global_.verbose, made.global_.overwrite) == (True, False)
    assert made.paths.src_dataset == Path("/home/someone/photos")
    assert made.paths.web_crawl_output_json is None
    assert made.web_crawl.delay_between_requests == 1.5
    split = made.train_val_split
    assert (split.train_size, split.random_state, split.dominant_threshold) == (0.7, 0, 1)


@pytest.mark.parametrize(
    ("key", "wrong", "message"),
    [
        ("included_classes", ",", "List should have at least 1 item"),
        ("included_classes", "../Aves", "is no folder name"),
        ("verbose", "perhaps", "valid boolean"),
        ("source", "check_list", "needs contact"),
        ("source", "atlas", "should be 'check_list'"),
        ("total_pages", "0", "greater than 0"),
        ("total_pages", "1.5", "valid integer"),
        ("base_url", "ftp://x", "https?://"),
        ("delay_between_requests", "nan", "finite"),
        ("train_size", "1", "less than 1"),
        ("train_size", "eighty", "valid number"),
        ("random_state", "-1", "greater than or equal to 0"),
        ("random_state", "none", "valid integer"),
        ("dominant_threshold", "0", "greater than 0"),
        ("dominant_threshold", "1.01", "less than or equal to 1"),
    ],
)
def test_a_wrong_answer_is_told_at_once_and_asked_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], key: str, wrong: str, message: str
) -> None:
    person = Person(**{key: [wrong, ""]})
    create_config(Config(), tmp_path / "new.yaml", person)
    told = capsys.readouterr().out
    assert repr(wrong) in told
    assert message in told
    assert len(person.prompts) == len(KEYS) + 1
    assert elsewhere(load_config(tmp_path / "new.yaml")) == elsewhere(Config())


def test_a_region_can_be_crawled(tmp_path: Path) -> None:
    made = write(tmp_path / "new.yaml", contact=["me@example.org"], source=["check_list"])
    assert (made.region.contact, made.region.source) == ("me@example.org", "check_list")


def test_answers_must_fit_each_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    start = Config.model_validate({"train_val_split": {"train_size": 0.7, "val_size": 0.2}})
    create_config(start, tmp_path / "new.yaml", Person(train_size=["0.8", "0.75"]))
    assert "train_size + val_size leave nothing to test on" in capsys.readouterr().out
    assert load_config(tmp_path / "new.yaml").train_val_split.train_size == 0.75


# what may not happen ------------------------------------------------------------------------------------------------


def test_a_file_that_is_there_is_kept_unless_told(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("# mine")
    person = Person()
    with pytest.raises(ConfigError, match=r"mine\.yaml is there already; give another name, or --overwrite"):
        create_config(Config(), path, person)
    assert person.prompts == []
    assert path.read_text() == "# mine"
    create_config(Config(), path, None, overwrite=True)
    assert load_config(path).experiment == "mine"


@pytest.mark.parametrize("end", [EOFError, KeyboardInterrupt])
def test_questions_broken_off_write_nothing(tmp_path: Path, end: type[BaseException]) -> None:
    def ask(prompt: str) -> str:
        if prompt.startswith("train_val_split"):
            raise end
        return ""

    path = tmp_path / "new.yaml"
    path.write_text("# mine")
    with pytest.raises((ConfigError, KeyboardInterrupt)):
        create_config(Config(), path, ask, overwrite=True)
    assert path.read_text() == "# mine"
    assert [file.name for file in tmp_path.iterdir()] == ["new.yaml"]


def test_a_source_that_is_not_there_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "ommatidia")
    start = Config.model_validate({"paths": {"src_dataset": str(tmp_path / "no")}})
    create_config(start, tmp_path / "new.yaml", None)
    assert caplog.messages[0] == f"note: paths.src_dataset {tmp_path / 'no'} is not there yet"
    assert caplog.messages[1].startswith(f"wrote {tmp_path / 'new.yaml'}; next: dataset_orchestrator.py --config ")


# the script ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., int]:
    def call(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["create_config.py", *arguments, "--config", str(ROOT / "config.yaml")])
        return script.main()

    return call


def test_script_asks_on_the_terminal(
    call: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("builtins.input", Person(random_state=["7"]))
    assert call(str(tmp_path / "new.yaml")) == 0
    assert load_config(tmp_path / "new.yaml").seed == 7


def test_script_asks_nothing_with_yes(
    call: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("builtins.input", lambda prompt: pytest.fail(prompt))
    path = tmp_path / "new.yaml"
    assert call(str(path), "--yes", "--set", "paths.src_dataset=photos") == 0
    assert load_config(path).paths.src_dataset == Path("photos")
    assert call(str(path), "--yes") == WRONG_USAGE
    assert call(str(path), "--yes", "--overwrite") == 0


def test_script_names_a_target_that_cannot_be_written(
    call: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("builtins.input", lambda prompt: pytest.fail("asked before the target was tried"))
    (tmp_path / "file").write_text("")
    assert call(str(tmp_path / "file" / "new.yaml")) == FAILED
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert str(tmp_path / "file") in error


def test_every_question_is_of_the_schema() -> None:
    dump = Config().dump()
    for key in wizard.KEYS:
        section, name = key.split(".")
        assert name in dump[section]
