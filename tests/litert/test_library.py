"""The shape of the native library, also for Android, and its Java class on a desktop JVM."""

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from ec2t_tf.export.kernels import build as kernels
from ec2t_tf.export.litert import library

ANDROID = library.ROOM.parent / "android"
ENTRY_POINTS = ["tflite_plugin_create_delegate", "tflite_plugin_destroy_delegate"]


def tool(*names):
    for name in names:
        if shutil.which(name) is None:
            pytest.skip(f"not installed: {name}")


def output_of(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def exported(file):
    return sorted(
        line.split()[-1] for line in output_of("nm", "-D", "--defined-only", str(file)).splitlines()
    )


def test_exports_its_entry_points_only_and_needs_libc_only(native_library):
    tool("nm")
    assert exported(native_library) == ENTRY_POINTS
    undefined = output_of("nm", "-D", "--undefined-only", str(native_library))
    assert not re.search(r"TfLite|LiteRt|Py", undefined)


@pytest.fixture(scope="module")
def android(tmp_path_factory):
    """A folder with the library that Android's CMake builds, with glibc's compiler for aarch64."""
    tool("cmake", "make", "aarch64-linux-gnu-gcc")
    folder = tmp_path_factory.mktemp("android")
    options = {
        "CMAKE_SYSTEM_NAME": "Linux",
        "CMAKE_SYSTEM_PROCESSOR": "aarch64",
        "CMAKE_C_COMPILER": "aarch64-linux-gnu-gcc",
        "CMAKE_C_FLAGS": " ".join(kernels.STRICT_FLAGS),
        "CMAKE_EXPORT_COMPILE_COMMANDS": "ON",
    }
    definitions = [f"-D{name}={value}" for name, value in options.items()]
    output_of("cmake", "-S", str(ANDROID), "-B", str(folder), *definitions)
    output_of("cmake", "--build", str(folder))
    return folder


def test_android_compiles_what_build_py_compiles_with_the_same_flags(android):
    commands = json.loads((android / "compile_commands.json").read_text())
    compiled = {Path(entry["file"]).resolve() for entry in commands}
    assert compiled == {*kernels.sources("aarch64"), *library.sources()}
    flags = {*kernels.COMPILE_FLAGS, *kernels.flags_in(library.ROOM / "flags.txt")}
    assert "-ffp-contract=off" in flags
    for entry in commands:
        words = shlex.split(entry["command"])
        assert flags <= set(words), entry["file"]
        assert [word for word in words if word.startswith(("-std", "-O"))] == ["-std=c11", "-O3"]


def fused(file):
    """Fused multiply-adds of floating point in an aarch64 file."""
    return [
        line
        for line in output_of("aarch64-linux-gnu-objdump", "-d", str(file)).splitlines()
        if re.search(r"\tf(?:n?madd|n?msub|mla|mls)\s", line)
    ]


def test_android_library_fuses_no_multiply_add(android, tmp_path):
    """It would round otherwise than x86: the same sources without the flag do fuse."""
    tool("aarch64-linux-gnu-objdump")
    assert fused(android / "libec2t_litert.so") == []
    target = kernels.Target("aarch64", ("aarch64-linux-gnu-gcc",))
    other = kernels.build(
        tmp_path / "fused.so", target=target, flags=["-ffp-contract=fast"], shared=True
    )
    assert fused(other)


def test_aarch64_library_is_fit_for_android(android):
    """16 KiB segments and no text relocations."""
    tool("aarch64-linux-gnu-readelf")
    file = android / "libec2t_litert.so"
    headers = output_of("aarch64-linux-gnu-readelf", "-lW", str(file))
    alignments = re.findall(r"^\s+LOAD.*\s(0x[0-9a-f]+)$", headers, re.M)
    assert alignments
    assert set(alignments) == {"0x4000"}
    dynamic = output_of("aarch64-linux-gnu-readelf", "-d", str(file))
    assert "TEXTREL" not in dynamic
    assert exported(file) == ENTRY_POINTS


DELEGATE = "package org.tensorflow.lite; public interface Delegate { long getNativeHandle(); }"
MAIN = """
import org.ec2t.litert.Ec2tDelegate;
public class Main {
  public static void main(String[] none) {
    Ec2tDelegate delegate = new Ec2tDelegate();
    System.out.println(delegate.getNativeHandle() != 0);
    delegate.close();
    delegate.close();
    try { delegate.getNativeHandle(); } catch (IllegalStateException e) {
      System.out.println(e.getMessage());
    }
    try { new Ec2tDelegate("colour", "blue"); } catch (IllegalArgumentException e) {
      System.out.println(e.getMessage());
    }
    try { new Ec2tDelegate("colour"); } catch (IllegalArgumentException e) {
      System.out.println(e.getMessage());
    }
    try { new Ec2tDelegate("colour", null); } catch (IllegalArgumentException e) {
      System.out.println(e.getMessage());
    }
  }
}
"""


def test_java_class(tmp_path):
    """Against a stand-in of TensorFlow Lite's interface Delegate."""
    tool("javac", "java", *kernels.host_target().missing_tools())
    home = Path(shutil.which("javac")).resolve().parents[1]
    if not (home / "include" / "jni.h").is_file():
        pytest.skip("not installed: jni.h")
    interface = tmp_path / "org/tensorflow/lite/Delegate.java"
    interface.parent.mkdir(parents=True)
    interface.write_text(DELEGATE)
    (tmp_path / "Main.java").write_text(MAIN)
    java = ANDROID / "src/main/java/org/ec2t/litert/Ec2tDelegate.java"
    output_of("javac", "-d", str(tmp_path), str(interface), str(java), str(tmp_path / "Main.java"))
    library.build(
        tmp_path / "libec2t_litert.so",
        flags=(
            *kernels.STRICT_FLAGS,
            f"-I{home / 'include'}",
            f"-I{home / 'include' / 'linux'}",
            str(ANDROID / "src/main/cpp/jni.c"),
        ),
    )
    printed = output_of("java", f"-Djava.library.path={tmp_path}", "-cp", str(tmp_path), "Main")
    lines = printed.splitlines()
    assert lines[:2] == ["true", "the delegate has been closed"]
    assert "Received: colour=blue" in lines[2]
    assert "pairs of a name and a value" in lines[3]
    assert "null" in lines[4]


# Android's and TensorFlow Lite's own classes, as far as docs/android.md uses them.
STAND_INS = {
    "org/tensorflow/lite/Tensor": """package org.tensorflow.lite;
public interface Tensor {
  int numElements();
}""",
    "org/tensorflow/lite/Interpreter": """package org.tensorflow.lite;
public final class Interpreter implements AutoCloseable {
  public static class Options { public Options addDelegate(Delegate delegate) { return this; } }
  public Interpreter(java.nio.ByteBuffer model, Options options) {}
  public Tensor getInputTensor(int index) { return null; }
  public Tensor getOutputTensor(int index) { return null; }
  public void run(Object input, Object output) {}
  @Override public void close() {}
}""",
    "android/content/res/AssetManager": """package android.content.res;
public final class AssetManager {
  public AssetFileDescriptor openFd(String name) throws java.io.IOException { return null; }
}""",
    "android/content/res/AssetFileDescriptor": """package android.content.res;
public class AssetFileDescriptor implements java.io.Closeable {
  public java.io.FileDescriptor getFileDescriptor() { return null; }
  public long getStartOffset() { return 0; }
  public long getDeclaredLength() { return 0; }
  @Override public void close() throws java.io.IOException {}
}""",
    "android/content/Context": """package android.content;
public abstract class Context {
  public abstract android.content.res.AssetManager getAssets();
}""",
}
# The interface before and since TensorFlow Lite 2.10 or so: Ec2tDelegate compiles with both.
CLOSEABLE_DELEGATE = """package org.tensorflow.lite;
public interface Delegate extends java.io.Closeable {
  long getNativeHandle();
  @Override default void close() {}
}"""


@pytest.mark.parametrize("interface", [DELEGATE, CLOSEABLE_DELEGATE])
def test_java_of_the_documentation_compiles(tmp_path, interface):
    """docs/android.md's class, in Java 8 as export/android/build.gradle has it."""
    tool("javac")
    page = (ANDROID.parents[1] / "docs" / "android.md").read_text()
    (block,) = re.findall(r"```java\n(.*?)```", page, re.DOTALL)
    texts = {**STAND_INS, "org/tensorflow/lite/Delegate": interface, "Classifier": block}
    files = [tmp_path / f"{name}.java" for name in texts]
    for file, text in zip(files, texts.values(), strict=True):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    files.append(ANDROID / "src/main/java/org/ec2t/litert/Ec2tDelegate.java")
    options = ["--release", "8", "-Xlint:all,-options", "-Werror", "-d", str(tmp_path)]
    done = subprocess.run(
        ["javac", *options, *map(str, files)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "Classifier.class").is_file()
