/* The native half of Ec2tDelegate.java. */
#include <jni.h>

#include "delegate.h"

enum { MOST_OPTIONS = 32 };

/* The delegate interface reports an error through a function without context. */
static _Thread_local JNIEnv *reporting;

static void report(const char *message) {
    jclass class = (*reporting)->FindClass(reporting, "java/lang/IllegalArgumentException");
    if (class != NULL) {
        (*reporting)->ThrowNew(reporting, class, message);
    }
}

JNIEXPORT jlong JNICALL Java_org_ec2t_litert_Ec2tDelegate_create(JNIEnv *env, jclass class,
                                                                 jobjectArray options) {
    (void)class;
    reporting = env;
    const jsize count = (*env)->GetArrayLength(env, options);
    if (count % 2 != 0 || count > 2 * MOST_OPTIONS) {
        report("options are pairs of a name and a value, at most 32");
        return 0;
    }
    jstring strings[2 * MOST_OPTIONS];
    const char *texts[2 * MOST_OPTIONS] = {NULL};
    const char *keys[MOST_OPTIONS], *values[MOST_OPTIONS];
    bool complete = true;
    for (jsize i = 0; i < count; i++) {
        strings[i] = (*env)->GetObjectArrayElement(env, options, i);
        if (strings[i] != NULL) {
            texts[i] = (*env)->GetStringUTFChars(env, strings[i], NULL);
        }
        complete = complete && texts[i] != NULL;
        (i % 2 == 0 ? keys : values)[i / 2] = texts[i];
    }
    TfLiteDelegate *delegate = NULL;
    if (complete) {
        delegate = tflite_plugin_create_delegate(keys, values, (size_t)count / 2, report);
    } else if (!(*env)->ExceptionCheck(env)) {
        report("a name or value of an option is null");
    }
    for (jsize i = 0; i < count; i++) {
        if (texts[i] != NULL) {
            (*env)->ReleaseStringUTFChars(env, strings[i], texts[i]);
        }
    }
    return (jlong)(intptr_t)delegate;
}

JNIEXPORT void JNICALL Java_org_ec2t_litert_Ec2tDelegate_destroy(JNIEnv *env, jclass class,
                                                                 jlong handle) {
    (void)env;
    (void)class;
    tflite_plugin_destroy_delegate((TfLiteDelegate *)(intptr_t)handle);
}
