"""The `Dockerfile` without a container engine: its lines run in a folder, on its own copies of the tree."""

import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import tomllib
import venv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import Distribution, distributions
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

pytestmark = pytest.mark.long

ROOT = Path(__file__).parent.parent
SITE = Path(find_spec("pytest").origin).parent.parent  # type: ignore[union-attr, arg-type]


def instructions() -> list[tuple[str, str]]:
    """The lines of the Dockerfile as (keyword, rest), continued lines joined."""
    joined = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line for line in joined.splitlines() if line.strip() and not line.startswith("#")]
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in lines]


def rest_of(keyword: str) -> list[str]:
    return [rest for word, rest in instructions() if word == keyword]


def environment_of_the_image() -> dict[str, str]:
    return dict(pair.split("=", 1) for rest in rest_of("ENV") for pair in rest.split())


def not_of_the_checkout(folder: str, names: list[str]) -> list[str]:
    """What is left there by others: compiled files."""
    places = [Path(folder, name) for name in names]
    return [p.name for p in places if p.name == "__pycache__" or p.suffix == ".so"]


@dataclass(frozen=True)
class Build:
    """A folder in the place of /opt/ltrsys, and an environment in the place of the image's."""

    root: Path
    environment: Path

    def copy(self, rest: str) -> None:
        """COPY, as far as the Dockerfile uses it."""
        *sources, to = rest.split()
        (self.root / to).parent.mkdir(exist_ok=True)
        for source in sources:
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, self.root / to, ignore=not_of_the_checkout, symlinks=True)
            else:
                shutil.copy(ROOT / source, self.root / to)

    def run(self, command: str) -> subprocess.CompletedProcess[str]:
        """RUN, by the SHELL of the Dockerfile."""
        (shell,) = map(json.loads, rest_of("SHELL"))
        inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        path = f"{self.environment}/bin:{SITE.parents[2]}/bin:{os.environ['PATH']}"
        return subprocess.run(
            [*shell, command],
            cwd=self.root, env=inherited | {"PATH": path}, capture_output=True, text=True, check=False,
        )  # fmt: skip

    @property
    def site(self) -> Path:
        (site,) = (self.environment / "lib").glob("python3*/site-packages")
        return site

    def distribution(self) -> Distribution:
        """What was installed."""
        (found,) = distributions(path=[str(self.site)])
        return found


def new_build(folder: Path) -> Build:
    """An environment with pip and setuptools, whose pip fetches nothing."""
    build = Build(folder / "opt", folder / "environment")
    build.root.mkdir()
    venv.create(build.environment, with_pip=False, symlinks=True)
    tools = folder / "tools"
    tools.mkdir()
    for tool in (SITE / "pip", SITE / "setuptools", SITE / "_distutils_hack", *SITE.glob("setuptools-*.dist-info")):
        (tools / tool.name).symlink_to(tool)
    pip = build.environment / "bin" / "pip"
    pip.write_text(
        "#!/bin/sh\n"
        "command=$1 && shift\n"
        f"PYTHONPATH={tools} exec {build.environment}/bin/python -m pip"
        ' "$command" --no-index --no-deps --no-build-isolation "$@"\n'
    )
    pip.chmod(0o755)
    return build


def install(build: Build, setup: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run the Dockerfile up to the line that installs, with another setup.py if given."""
    for keyword, rest in instructions():
        if keyword == "COPY":
            build.copy(rest)
        if keyword == "RUN":
            assert "pip install" in rest, "the first RUN installs"
            if setup is not None:
                (build.root / "setup.py").write_text(setup)
            return build.run(rest)
    raise AssertionError("no RUN")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """The whole of /opt/ltrsys."""
    build = new_build(tmp_path_factory.mktemp("image"))
    done = install(build)
    assert done.returncode == 0, done.stdout + done.stderr
    installed = False
    for keyword, rest in instructions():
        installed = installed or keyword == "RUN"
        if keyword == "COPY" and installed:
            build.copy(rest)
    (build.site / "requirements.pth").write_text(str(SITE))  # lent: nothing was fetched
    return build


def test_the_dockerfile_passes_hadolint():
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    assert hadolint, "hadolint is missing: pip install -e '.[dev]'"
    done = subprocess.run([hadolint, "Dockerfile"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_image_does_not_run_as_root():
    assert rest_of("USER")[-1:] not in ([], ["root"], ["0"])


def test_the_code_is_found_where_the_image_has_it(built):
    ask = "import ltrsys, ltrsys.kernels.gpu as gpu; print(ltrsys.__file__, gpu.__file__)"
    done = built.run(f"python -c '{ask}'")
    places = [f"{built.root}/ltrsys/__init__.py", f"{built.root}/ltrsys/kernels/gpu/__init__.py"]
    assert done.stdout.split() == places, done.stdout + done.stderr


def test_a_package_that_the_stub_tree_lacks_ends_the_build(tmp_path):
    setup = (ROOT / "setup.py").read_text()
    more = setup.replace('find_packages(include=["ltrsys", "ltrsys.*"])', '["ltrsys", "ltrsys.tpu"]')
    assert more != setup
    done = install(new_build(tmp_path), more)
    assert done.returncode != 0
    assert "package directory 'ltrsys/tpu' does not exist" in done.stdout + done.stderr


def test_the_build_tries_ltrsys_and_training(built):
    (check,) = (rest for rest in rest_of("RUN") if "--help" in rest)
    assert "ltrsys --help" in check
    assert "launchers/train.py --help" in check
    secret = built.root / "configs" / "glyphs" / "demo.yaml"
    secret.chmod(0o600)
    done = built.run(check)
    assert done.returncode == 0, done.stdout + done.stderr
    assert stat.S_IMODE(secret.stat().st_mode) == 0o644


# What the base image has.


def recorded() -> dict[str, Any]:
    """What tests/image/ knows of the image that the Dockerfile names."""
    (image,) = (rest.split("=", 1)[1] for rest in rest_of("ARG") if rest.startswith("PYTORCH_IMAGE="))
    path = ROOT / "tests" / "image" / f"{image.rsplit('/', 1)[1].replace(':', '-')}.toml"
    assert path.exists(), f"{path}: record there what is known of the packages of {image}"
    known = tomllib.loads(path.read_text())
    assert known["image"] == image
    return known


def unmet(distribution: Distribution, versions: Mapping[str, str], extras: set[str]) -> list[str]:
    """The requirements that a recorded version does not meet, among those whose packages are recorded."""
    needed = [Requirement(line) for line in distribution.requires or []]
    asked = [need for need in needed if need.marker is None or any(need.marker.evaluate({"extra": e}) for e in extras)]
    assert {"torch", "fsspec", "s3fs"} <= {need.name for need in asked}
    return [
        f"{need.name}{need.specifier}: {versions[canonicalize_name(need.name)]}"
        for need in asked
        if canonicalize_name(need.name) in versions
        and not need.specifier.contains(versions[canonicalize_name(need.name)], prereleases=True)
    ]


def installed_extras() -> set[str]:
    """The extras that the Dockerfile installs, and none."""
    (line,) = (rest for rest in rest_of("RUN") if "pip install" in rest)
    named = re.search(r"'?\.\[([\w,]+)\]'?", line)
    return {"", *(named[1].split(",") if named else ())}


def test_the_clients_of_remote_shards_are_in_the_image():
    assert installed_extras() == {"", "remote"}


def test_the_base_image_has_what_setup_py_asks_for(built):
    known = recorded()
    assert {"torch", "nvidia-dali-cuda130"} <= known["packages"].keys()
    assert not unmet(built.distribution(), known["packages"], installed_extras())
    assert SpecifierSet(built.distribution().metadata["Requires-Python"]).contains(known["python"])


def test_a_base_image_with_an_older_dali_is_noticed(built):
    older = recorded()["packages"] | {"nvidia-dali-cuda130": "1.53.0"}
    assert unmet(built.distribution(), older, installed_extras()) == ["nvidia-dali-cuda130>=2.2: 1.53.0"]


# What a container starts.


@pytest.fixture
def start(built, tmp_path):
    """Start what ENTRYPOINT names with `arguments`; deepspeed, python and ltrsys tell what they are given."""
    stand_ins = tmp_path / "bin"
    stand_ins.mkdir()
    for name in ("deepspeed", "python", "ltrsys"):
        (stand_ins / name).write_text('#!/bin/sh\nprintf "%s\\n" "${0##*/}" "$@"\n')
        (stand_ins / name).chmod(0o755)
    *_, script = json.loads(rest_of("ENTRYPOINT")[0])

    def run(*arguments: str) -> list[str]:
        program = script.replace("/opt/ltrsys", str(built.root))
        path = f"{stand_ins}:{os.environ['PATH']}"
        done = subprocess.run([program, *arguments], env={"PATH": path}, capture_output=True, text=True, check=True)
        return done.stdout.splitlines()

    return run


def test_options_train(start, built):
    train = ["--config", "configs/glyphs/demo.yaml", "name=two words"]
    assert start(*train) == ["deepspeed", f"{built.root}/launchers/train.py", *train]


def test_anything_else_is_run_as_it_is(start):
    assert start("ltrsys", "balance", "runs/two words", "--help") == ["ltrsys", "balance", "runs/two words", "--help"]
    assert start("deepspeed", "--num_gpus", "2", "x.py") == ["deepspeed", "--num_gpus", "2", "x.py"]


def test_without_arguments_the_container_tells_its_use_once(start, built):
    (nothing,) = map(json.loads, rest_of("CMD"))
    told = start(*nothing)
    assert told == start() == start("-h")
    assert "ltrsys --help" in told[0]
    assert told[1:] == ["python", f"{built.root}/launchers/train.py", "--help"]


def test_both_start_for_real(built):
    told = built.run("launchers/container.sh ltrsys --help")
    assert told.returncode == 0, told.stderr
    assert "balance" in told.stdout
    trained = built.run("launchers/container.sh --config configs/nothing.yaml")
    assert trained.returncode != 0
    assert "ltrsys: configs/nothing.yaml" in trained.stdout + trained.stderr


def test_configs_are_found_from_the_working_folder(built):
    assert rest_of("WORKDIR")[-1] == "/work"
    (link,) = re.findall(r"ln -s (\S+) (/work/\S+)", " ".join(rest_of("RUN")))
    assert link == ("/opt/ltrsys/configs", "/work/configs")
    assert (built.root / "configs" / "glyphs" / "demo.yaml").exists()


# Where it writes.

CACHES = """
import os
import matplotlib, torch._inductor.runtime.cache_dir_utils, torch.utils.cpp_extension, triton, wandb
from triton.runtime.cache import get_cache_manager
print(os.getuid())
print(get_cache_manager("00ff").put(b"code", "a-file"))
print(torch.utils.cpp_extension._get_build_directory("an_extension", verbose=False))
print(matplotlib.get_configdir(), matplotlib.get_cachedir(), sep="\\n")
print(wandb.env.get_cache_dir())
os.makedirs(wandb.env.get_cache_dir())
print(torch._inductor.runtime.cache_dir_utils.cache_dir())
"""
"""Print who uses each cache, and where it lies."""

STRANGER = [
    "setpriv", "--reuid=54321", "--regid=54321", "--clear-groups",
    "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search",
]  # fmt: skip
"""Become a user whom the image does not know, as by `docker run -u`, who may read Python wherever it lies here."""


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may enter, as pytest's own are not."""
    with tempfile.TemporaryDirectory(prefix="ltrsys-image-") as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


def test_caches_are_writable_for_a_user_whom_the_image_does_not_know(open_folder):
    home = environment_of_the_image()["HOME"]
    (make_home,) = re.findall(rf"mkdir -m \S+ {home}\b", " ".join(rest_of("RUN")))
    folder = open_folder / "home"
    subprocess.run(["bash", "-c", make_home.replace(home, str(folder))], check=True)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o1777

    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "TMPDIR": str(folder)}
    become = STRANGER if os.geteuid() == 0 and shutil.which("setpriv") else []
    done = subprocess.run(
        [*become, sys.executable, "-c", CACHES], cwd="/", env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    user, *places = done.stdout.splitlines()
    assert user == ("54321" if become else str(os.geteuid()))
    assert len(places) == 6
    for place in map(Path, places):
        assert place.exists(), place
        assert place.is_relative_to(folder), place
    assert "not a writable directory" not in done.stderr


def test_no_variable_of_the_image_names_a_place_that_is_read_only_in_apptainer():
    places = [name for name, value in environment_of_the_image().items() if value.startswith("/")]
    assert places == ["HOME"]
