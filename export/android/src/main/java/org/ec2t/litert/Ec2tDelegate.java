package org.ec2t.litert;

import org.tensorflow.lite.Delegate;

/**
 * Runs EC2T's ternary layers in a TensorFlow Lite interpreter.
 *
 * <pre>{@code
 * try (Ec2tDelegate delegate = new Ec2tDelegate();
 *      Interpreter interpreter =
 *          new Interpreter(model, new Interpreter.Options().addDelegate(delegate))) {
 *   interpreter.run(input, output);
 * }
 * }</pre>
 *
 * Close the interpreter before the delegate; try-with-resources in this order does.
 */
public final class Ec2tDelegate implements Delegate, AutoCloseable {
  static {
    System.loadLibrary("ec2t_litert");
  }

  private long handle;

  /** Rounds as XNNPACK does, and also takes plain int8 layers that are faster sparse. */
  public Ec2tDelegate() {
    this("requant", "fp32", "claim_int8", "1");
  }

  /**
   * A delegate with options: name, value, name, value, ... as in the README.
   *
   * @throws IllegalArgumentException for an unknown option or value.
   */
  public Ec2tDelegate(String... options) {
    handle = create(options);
  }

  @Override
  public long getNativeHandle() {
    if (handle == 0) {
      throw new IllegalStateException("the delegate has been closed");
    }
    return handle;
  }

  @Override
  public void close() {
    if (handle != 0) {
      destroy(handle);
      handle = 0;
    }
  }

  private static native long create(String[] options);

  private static native void destroy(long handle);
}
