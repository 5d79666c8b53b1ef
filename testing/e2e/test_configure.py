#!/usr/bin/env python3
"""`make build` on a machine that lacks something: one line that names the packages, no package manager, no root; and
packages that only the tests need are asked for by the tests alone.   usage: test_configure.py SOURCE BUILD"""
import os
import re
import shutil
import subprocess
import sys
import tempfile

source = os.path.abspath(sys.argv[1])
work = tempfile.mkdtemp()
called = os.path.join(work, "called")


def program(folder, name, text):
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, name)
    with open(path, "w", encoding="ascii") as f:
        f.write("#!/bin/sh\n" + text)
    os.chmod(path, 0o755)


def section(name):
    """The packages of a section of requirements.txt."""
    with open(os.path.join(source, "requirements.txt"), encoding="utf-8") as f:
        parts = re.split(r"^\[(\w+)\]\n", f.read(), flags=re.M)
    body = dict(zip(parts[1::2], parts[2::2]))[name]
    return {line.split("#")[0].strip() for line in body.split("\n")} - {""}


def configure(*options, path=None, libraries=None, compiler="gcc"):
    """Exit status and what was printed, in a fresh build folder."""
    shutil.rmtree(os.path.join(work, "build"), ignore_errors=True)
    env = dict(os.environ, PATH=path or os.path.join(work, "watched") + ":" + os.environ["PATH"])
    if libraries:
        env["PKG_CONFIG_LIBDIR"] = libraries
    done = subprocess.run([os.path.join(source, "tools/configure.sh"), os.path.join(work, "build"), compiler, *options],
                          env=env, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def names(text):
    found = re.fullmatch(r"not installed: ([a-z0-9 .+-]+) \(names of Debian and Ubuntu; `make (\S+)` installs them\)\n", text)
    assert found, text
    return set(found.group(1).split()), found.group(2)


try:
    for name in ("apt", "apt-get", "sudo", "dpkg", "doas"):
        program(os.path.join(work, "watched"), name, f"echo $0 $* >>{called}\n")
    with open(os.path.join(source, "cmake/requirements.cmake"), encoding="utf-8") as f:
        libraries = set(re.findall(r"^dr_library\(\w+ (\S+)", f.read(), re.M))
    assert len(libraries) == 9 and libraries <= section("build"), libraries - section("build")

    empty = os.path.join(work, "empty")
    os.mkdir(empty)
    code, text = configure(libraries=empty)
    assert code == 1 and names(text) == (libraries, "deps"), text

    code, text = configure("-DBUILD_TESTING=ON", libraries=empty)
    assert code == 1 and names(text) == (libraries | {"libcmocka-dev"}, "test-deps"), text
    assert "libcmocka-dev" in section("test") and "python3" in section("test")
    with open(os.path.join(work, "build/CMakeCache.txt"), encoding="utf-8") as f:
        assert "BUILD_TESTING:BOOL=OFF" in f.read()  # so that the next build does not ask for cmocka again

    # a machine with a shell and coreutils only, then one thing more at a time
    few = os.path.join(work, "few")
    os.mkdir(few)
    for name in ("bash", "env", "sed", "grep", "cat", "mkdir", "dirname", "sh"):
        os.symlink(shutil.which(name), os.path.join(few, name))
    code, text = configure(path=few)
    assert code == 1 and names(text)[0] == {"gcc", "cmake", "ninja-build", "pkgconf", "binutils"}, text
    assert names(text)[0] <= section("build")
    code, text = configure(path=few, compiler="clang")
    assert code == 1 and "clang" in names(text)[0] and names(text)[1] == "test-deps", text
    for name in ("cmake", "ninja", "pkg-config", "objcopy"):
        program(few, name, "exit 0\n")
    program(few, "gcc", "exit 1\n")  # a compiler without the C library's headers
    code, text = configure(path=few)
    assert code == 1 and names(text) == ({"libc6-dev"}, "deps"), text

    assert not os.path.exists(called), open(called, encoding="utf-8").read()
finally:
    shutil.rmtree(work)
