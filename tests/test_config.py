"""The configuration: the users' files load unchanged, a slip is named with its line and the nearest key."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.config import Config, load_config, save_config
from pipeline.errors import ConfigError

USERS = """\
global:
  included_classes: [Aves, Insecta]
  verbose: false
  overwrite: false
paths:
  src_dataset: ./data/train_val_images
  dst_dataset: ./data/haute_garonne
  output_dir: ./output
  web_crawl_output_json: ./output/haute_garonne.json
web_crawl:
  total_pages: 104
  base_url: https://www.inaturalist.org/check_lists/32961-Haute-Garonne-Check-List?page=
  delay_between_requests: 1
train_val_split:
  train_size: 0.8
  random_state: 42
  dominant_threshold: 0.5
"""


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., Config]:
    def read(text: str, *overrides: str) -> Config:
        path = tmp_path / "mine.yaml"
        path.write_text(text, encoding="utf-8")
        return load_config(path, overrides)

    return read


@pytest.fixture
def refused(load: Callable[..., Config]) -> Callable[..., str]:
    def read(text: str, *overrides: str) -> str:
        with pytest.raises(ConfigError) as caught:
            load(text, *overrides)
        message = str(caught.value)
        assert "\n" not in message
        return message

    return read


def test_users_form_loads_unchanged(load: Callable[..., Config]) -> None:
    config = load(USERS)
    assert config.global_.included_classes == ["Aves", "Insecta"]
    assert config.paths.web_crawl_output_json == Path("output/haute_garonne.json")
    assert config.web_crawl.total_pages == 104
    assert config.web_crawl.delay_between_requests == 1.0
    assert config.seed == 42
    assert config.cache_threshold == 0.5
    assert config.output == Path("output/mine")
    assert config.train_val_split.test_share == pytest.approx(0.1)


def test_empty_file_and_empty_sections_are_the_defaults(load: Callable[..., Config]) -> None:
    assert load("") == load("global:\npaths:\ntrain_val_split:\n") == Config(experiment="mine")


def test_every_shipped_configuration_loads() -> None:
    root = Path(__file__).resolve().parents[1]
    shipped = [*root.glob("config.yaml"), *root.glob("configs/*.yaml")]
    assert shipped
    for path in shipped:
        assert load_config(path).experiment


@pytest.mark.parametrize(
    "text", ["", USERS, "main: {pretrained: package, model: x}", "main: {pretrained: ./w.safetensors}"]
)
def test_saved_configuration_loads_again_to_an_equal_value(
    load: Callable[..., Config], tmp_path: Path, text: str
) -> None:
    config = load(text, "cache.start_ranks=[0, 7]", "main.arguments={drop_rate: 0.2}", "route.threshold=0.9")
    save_config(config, tmp_path / "deep" / "resolved.yaml")
    assert load_config(tmp_path / "deep" / "resolved.yaml") == config


def test_pretrained_package_is_a_word_and_a_path_is_a_path(load: Callable[..., Config]) -> None:
    assert load("main: {pretrained: package}").main.pretrained == "package"
    assert load("main: {pretrained: a/b.pth}").main.pretrained == Path("a/b.pth")
    assert load("main: {pretrained: true}").main.pretrained is True


def test_set_goes_before_the_file_and_the_last_one_wins(load: Callable[..., Config]) -> None:
    overrides = ("train_val_split.dominant_threshold=0.6", "train_val_split.dominant_threshold=0.7")
    assert load(USERS).train_val_split.dominant_threshold == 0.5
    assert load(USERS, *overrides).train_val_split.dominant_threshold == 0.7
    assert load(USERS, *overrides).train_val_split.train_size == 0.8


def test_set_opens_sections_that_the_file_lacks(load: Callable[..., Config]) -> None:
    assert load("", "main.recipe.size=224").main.recipe.size == 224
    assert load("main:\n", "main.distill.weight=0").main.distill.weight == 0
    assert load("", "global.included_classes=[Fungi]").global_.included_classes == ["Fungi"]


def test_an_empty_section_inside_another_is_its_defaults(load: Callable[..., Config]) -> None:
    assert load("cache: {distill: null, recipe: }").cache == load("").cache
    assert load("cache: {distill: {teacher: main}}", "cache.distill=null").cache.distill.teachers == []


def test_an_empty_mapping_is_its_default(load: Callable[..., Config]) -> None:
    config = load("monte_carlo: {dominant: }\ntest_sets: {sets: }\nmain: {arguments: }\nsweep:")
    assert config == load("")
    assert set(config.test_sets.sets) == {"DI1", "DI2", "DI3"}


def test_cache_threshold_falls_back_on_the_dominant_one(load: Callable[..., Config]) -> None:
    assert load("train_val_split: {dominant_threshold: 0.6}").cache_threshold == 0.6
    assert load("train_val_split: {dominant_threshold: 0.6}", "cache.threshold=0.3").cache_threshold == 0.3


def test_floats_in_the_form_1e_3_are_numbers(load: Callable[..., Config]) -> None:
    assert load("main: {lr: 1e-3}").main.lr == 0.001
    text = (
        "main: {schedule: {name: plateau, arguments: {min_lr: [1e-6, +2.E3]}}, arguments: {drop_rate: .1e0, name: e5}}"
    )
    config = load(text, "cache.schedule.arguments.eta_min=1e-6")
    assert config.main.schedule.arguments == {"min_lr": [1e-6, 2000.0]}
    assert config.main.arguments == {"drop_rate": 0.1, "name": "e5"}
    assert config.cache.schedule.arguments == {"eta_min": 1e-6}
    assert (
        config.main.schedule.arguments["min_lr"][0]
        == load("main: {schedule: {arguments: {a: 1.0e-6}}}").main.schedule.arguments["a"]
    )


def test_misspelt_key_names_the_nearest_and_the_line(refused: Callable[..., str]) -> None:
    message = refused(USERS.replace("random_state", "random_sate"))
    assert "mine.yaml, line 16: unknown key train_val_split.random_sate; did you mean random_state?" in message


def test_misspelt_section_names_the_nearest_and_the_line(refused: Callable[..., str]) -> None:
    assert "line 10: unknown key web_craw; did you mean web_crawl?" in refused(USERS.replace("web_crawl:", "web_craw:"))
    assert "line 1: unknown key global_; did you mean global?" in refused(USERS.replace("global:", "global_:"))


def test_misspelt_key_of_an_inner_section(refused: Callable[..., str]) -> None:
    message = refused("main:\n  recipe:\n    croop: 1\n")
    assert "line 3: unknown key main.recipe.croop; did you mean crop?" in message


def test_key_like_no_other_lists_the_known_ones(refused: Callable[..., str]) -> None:
    message = refused("monte_carlo: {zzz: 1}")
    assert "unknown key monte_carlo.zzz; known keys: runs, samples" in message


def test_all_slips_are_told_at_once(refused: Callable[..., str]) -> None:
    message = refused("paths: {scr_dataset: x}\ntrain_val_split: {train_size: 2}\n")
    assert "did you mean src_dataset?" in message
    assert "line 2: train_val_split.train_size" in message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "web_crawl:\n  total_pages: many",
            "line 2: web_crawl.total_pages (is 'many'): Input should be a valid integer",
        ),
        ("web_crawl:\n  total_pages: true", "line 2: web_crawl.total_pages (is True): must be a number"),
        ("web_crawl:\n  delay_between_requests: yes", "delay_between_requests (is True): must be a number"),
        ("web_crawl:\n  total_pages: 0", "total_pages (is 0): Input should be greater than 0"),
        ("web_crawl:\n  base_url: ftp://x", "base_url (is 'ftp://x'): String should match"),
        ("global:\n  included_classes: []", "included_classes (is []): List should have at least 1 item"),
        ("global:\n  included_classes: Aves", "included_classes (is 'Aves'): Input should be a valid list"),
        ("global:\n  verbose: maybe", "global.verbose (is 'maybe'): Input should be a valid boolean"),
        ("train_val_split:\n  dominant_threshold: 0", "Input should be greater than 0"),
        ("train_val_split:\n  dominant_threshold: 1.01", "Input should be less than or equal to 1"),
        ("train_val_split:\n  dominant_threshold: .nan", "Input should be a finite number"),
        ("train_val_split:\n  train_size: 1.0", "Input should be less than 1"),
        ("train_val_split:\n  random_state: -1", "Input should be greater than or equal to 0"),
        ("train_val_split:\n  train_size: 0.8\n  val_size: 0.2", "nothing to test on; lower one of them"),
        ("main:\n  epochs: 3\n  warmup_epochs: 3", "warmup_epochs 3.0 must be below epochs 3"),
        ("cache:\n  windows: 2\n  start_ranks: [0, 7]", "windows counts the start_ranks itself; give one of the two"),
        (
            "dataset:\n  copy_mode: move",
            "copy_mode (is 'move'): Input should be 'copy', 'hardlink', 'symlink' or 'reflink'",
        ),
        ("route:\n  threshold: 1.5", "threshold must be auto or lie in [0, 1]"),
        ("route:\n  rule: deferral", "rule deferral learns from a share of val; set learn_share, e.g. 0.3"),
        ("route:\n  own_thresholds: true", "own_thresholds are learnt from a share of val; set learn_share, e.g. 0.3"),
        ("route:\n  stages: [main, cache_0.5_0]", "stages must name each model once, main last"),
        ("route:\n  stages: [cache_0.5_0, cache_0.5_0]", "stages must name each model once, main last"),
        ("route:\n  stages: [../main]", "route.stages (is '../main')"),
        ("route:\n  confidence: 95", "route.confidence (is 95)"),
        ("route:\n  threshold: often", "route.threshold (is 'often')"),
        ("paths: 5", "line 1: paths (is 5): Input should be a valid dictionary"),
        ("paths: [a]", "line 1: paths (is ['a']): Input should be a valid dictionary"),
    ],
)
def test_wrong_value_names_key_value_and_rule(refused: Callable[..., str], text: str, words: str) -> None:
    assert words in refused(text)


def test_value_that_fits_none_of_two_types_is_told_once_without_their_names(refused: Callable[..., str]) -> None:
    message = refused("main: {pretrained: 5}")
    assert message.count("main.pretrained") == 1
    assert "main.pretrained (is 5): " in message
    assert ", or " in message


@pytest.mark.parametrize("name", ["..", "../other", "a/b", "a\\b", "."])
def test_group_that_is_no_folder_name_is_refused(refused: Callable[..., str], name: str) -> None:
    assert "is no folder name" in refused(f"global: {{included_classes: ['{name}']}}")


@pytest.mark.parametrize("text", ["a: [1, 2", "\tglobal: {}", "a: b: c"])
def test_what_is_not_yaml_is_refused_with_the_line(refused: Callable[..., str], text: str) -> None:
    message = refused(text)
    assert "mine.yaml is not readable YAML" in message
    assert "line 1" in message


@pytest.mark.parametrize("text", ["- global", "just words", "5"])
def test_yaml_without_sections_is_refused(refused: Callable[..., str], text: str) -> None:
    assert "must hold sections (global:, paths:, ...), not a" in refused(text)


def test_yaml_that_would_run_code_is_refused(refused: Callable[..., str]) -> None:
    assert "not readable YAML" in refused("global: !!python/object/apply:os.getcwd []")


def test_missing_file_says_what_config_takes(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no configuration at .*none\.yaml; --config takes a YAML file"):
        load_config(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("train_val_split.dominant_treshold=0.6", "--set: unknown key train_val_split.dominant_treshold; did you mean"),
        ("train_val_split.train_size=2", "--set: train_val_split.train_size (is 2)"),
        ("train_val_split=2", "--set: train_val_split (is 2)"),
        ("nonsense.x=2", "--set: unknown key nonsense"),
        ("train_val_split.train_size", "--set takes section.key=value"),
        ("=5", "--set takes section.key=value"),
        ("train_val_split.train_size.x=1", "train_size is a value, not a section"),
        ("main.recipe={size: 1", "the value is not YAML"),
    ],
)
def test_wrong_override_is_told_as_such(refused: Callable[..., str], override: str, words: str) -> None:
    message = refused(USERS, override)
    assert words in message
    assert "line" not in message


@pytest.mark.parametrize("name", ["../../escape", "a/b", ".."])
def test_experiments_name_is_one_safe_folder(load: Callable[..., Config], name: str) -> None:
    output = load(f"experiment: {name}").output
    assert output.parent == Path("output")
    assert output.name not in ("", ".", "..")


def test_main_and_cache_must_decode_alike(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("main: {recipe: {decode_side: 640}}\n")
    with pytest.raises(ConfigError, match="must agree: a photo is decoded once"):
        load_config(path)


def test_warm_up_counts_only_for_the_schedule_that_has_one(load: Callable[..., Config]) -> None:
    assert load("main:\n  epochs: 1\n  schedule: {name: plateau}").main.epochs == 1
