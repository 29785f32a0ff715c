"""Compiles HLSL with DirectX's compiler. Writes "ready", then answers each line {name, hlsl, entry, profile, arguments} on
standard input with a line: null, or what the compiler said. Argument: the path of libdxcompiler.

The compiler's objects are COM objects. On Linux, those of DXC before 1.8 have a C++ destructor, two entries of the table
of functions, behind the three of IUnknown.
"""

import ctypes
import json
import sys
import uuid
from ctypes import POINTER, byref, c_int32, c_size_t, c_uint32, c_void_p, c_wchar_p

COMPILER = "73e22d93-e6ce-47f3-b5bf-f0664f39c1b0", "8c210bf3-011f-4422-8d70-6f9acb8db617"
LIBRARY = "6245d6af-66e0-48fd-80b4-4d271796748c", "e5204dc7-d18c-4c3c-bdfb-851673980fe7"
UTF8 = 65001

RELEASE = 2
FIRST = 5  # the first function behind IUnknown and the destructor
CREATE_BLOB = FIRST + 3  # IDxcLibrary::CreateBlobWithEncodingFromPinned
COMPILE = FIRST  # IDxcCompiler::Compile
STATUS, RESULT, ERRORS = FIRST, FIRST + 1, FIRST + 2  # IDxcOperationResult
POINTER_OF_BLOB, SIZE_OF_BLOB = FIRST, FIRST + 1  # IDxcBlob


class Object:
    """A COM object, released at the end of a `with`."""

    def __init__(self, pointer):
        if not pointer:
            raise RuntimeError("DXC made no object")
        self.pointer = pointer

    def call(self, index, result, *arguments):
        """Calls a function of the table; arguments are ctypes values."""
        table = ctypes.cast(self.pointer, POINTER(POINTER(c_void_p))).contents
        kind = ctypes.CFUNCTYPE(result, c_void_p, *(type(argument) for argument in arguments))
        return kind(table[index])(self.pointer, *arguments)

    def made(self, index, *arguments):
        """Calls a function that makes an object: its last argument says where to put it."""
        made = c_void_p()
        status = self.call(index, c_int32, *arguments, ctypes.cast(byref(made), c_void_p))
        if status != 0:
            raise RuntimeError(f"DXC failed with {status & 0xFFFFFFFF:#x}")
        return Object(made.value)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.call(RELEASE, c_uint32)


def create(dxc, identifiers):
    class_id, interface_id = (uuid.UUID(text).bytes_le for text in identifiers)
    made = c_void_p()
    if dxc.DxcCreateInstance(class_id, interface_id, byref(made)) != 0:
        raise RuntimeError("DXC has no such object")
    return Object(made.value)


def bytes_of(blob):
    pointer = blob.call(POINTER_OF_BLOB, c_void_p)
    return ctypes.string_at(pointer, blob.call(SIZE_OF_BLOB, c_size_t)) if pointer else b""


def message(compiler, library, kernel):
    """None where `kernel` compiles to DXIL, else what the compiler says."""
    text = kernel["hlsl"].encode()
    source = ctypes.create_string_buffer(text, len(text))
    with library.made(
        CREATE_BLOB, ctypes.cast(source, c_void_p), c_uint32(len(text)), c_uint32(UTF8)
    ) as blob:
        given = kernel["arguments"]
        arguments = (c_wchar_p * len(given))(*given)
        none, no_count = c_void_p(), c_uint32(0)
        with compiler.made(
            COMPILE,
            c_void_p(blob.pointer),
            c_wchar_p(kernel["name"]),
            c_wchar_p(kernel["entry"]),
            c_wchar_p(kernel["profile"]),
            ctypes.cast(arguments, c_void_p),
            c_uint32(len(given)),
            none,
            no_count,
            none,
        ) as result:
            status = c_int32()
            result.call(STATUS, c_int32, ctypes.cast(byref(status), c_void_p))
            if status.value != 0:
                with result.made(ERRORS) as errors:
                    return bytes_of(errors).decode(errors="replace").strip("\0\n") or "no message"
            with result.made(RESULT) as code:
                return None if bytes_of(code)[:4] == b"DXBC" else "no DXIL came out"


def main():
    dxc = ctypes.CDLL(sys.argv[1])
    compiler, library = create(dxc, COMPILER), create(dxc, LIBRARY)
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(message(compiler, library, json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
