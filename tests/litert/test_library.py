"""The shape of the native library, also for Android, and its Java class on a desktop JVM."""

import re
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


def test_aarch64_library_is_fit_for_android(tmp_path):
    """16 KiB segments and no text relocations; built with glibc's compiler, not the NDK's."""
    target = kernels.Target("aarch64", ("aarch64-linux-gnu-gcc",))
    tool(*target.missing_tools(), "aarch64-linux-gnu-readelf")
    file = library.build(
        tmp_path / "libec2t_litert.so",
        target=target,
        flags=(*kernels.STRICT_FLAGS, "-Wl,-z,max-page-size=16384"),
    )
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
