"""libsmelt.so through ctypes: sessions over tokens and graphs over tensors."""
import ctypes

import numpy as np

TYPES = (np.float32, np.float64, np.int64, np.int32, np.int8, np.uint8, np.bool_)
STATE = 5  # SMELT_ROLE_STATE
NAMES = ("ok", "invalid argument", "not found", "corrupt", "unsupported", "exhausted", "cancelled", "internal")


class Failure(Exception):
    pass


class ModelInfo(ctypes.Structure):
    _fields_ = [("struct_size", ctypes.c_size_t), ("file_bytes", ctypes.c_uint64), ("vocab_size", ctypes.c_uint32),
                ("hidden_size", ctypes.c_uint32), ("layers", ctypes.c_uint32), ("max_context", ctypes.c_uint32),
                ("max_step_tokens", ctypes.c_uint32), ("max_logit_rows", ctypes.c_uint32), ("bos_token", ctypes.c_int32),
                ("eos_tokens", ctypes.c_int32 * 8), ("has_tokenizer", ctypes.c_int32), ("has_chat_template", ctypes.c_int32),
                ("cache_bytes_per_position", ctypes.c_uint64), ("scratch_bytes", ctypes.c_uint64),
                ("target", ctypes.c_char_p), ("metadata", ctypes.c_char_p), ("metadata_bytes", ctypes.c_size_t),
                ("has_graph", ctypes.c_int32)]


class SessionOptions(ctypes.Structure):
    _fields_ = [("struct_size", ctypes.c_size_t), ("context", ctypes.c_uint32), ("slots", ctypes.c_uint32),
                ("threads", ctypes.c_uint32)]


class Token(ctypes.Structure):
    _fields_ = [("id", ctypes.c_int32), ("position", ctypes.c_int32), ("slot", ctypes.c_int32)]


class GraphOptions(ctypes.Structure):
    _fields_ = [("struct_size", ctypes.c_size_t), ("threads", ctypes.c_uint32), ("memory_limit", ctypes.c_uint64)]


class PortStruct(ctypes.Structure):
    _fields_ = [("struct_size", ctypes.c_size_t), ("name", ctypes.c_char_p), ("type", ctypes.c_int), ("rank", ctypes.c_uint32),
                ("dims", ctypes.c_int64 * 8), ("role", ctypes.c_int), ("partner", ctypes.c_int32), ("grow_axis", ctypes.c_int32)]


class TensorStruct(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char_p), ("type", ctypes.c_int), ("rank", ctypes.c_uint32), ("dims", ctypes.c_int64 * 8),
                ("data", ctypes.c_void_p)]


class Library:
    def __init__(self, path):
        self.c = ctypes.CDLL(str(path))
        self.c.smelt_last_error.restype = ctypes.c_char_p
        self.c.smelt_logits.restype = ctypes.POINTER(ctypes.c_float)
        self.c.smelt_graph_input_count.restype = self.c.smelt_graph_output_count.restype = ctypes.c_size_t

    def check(self, status):
        if status != 0:
            raise Failure(f"{NAMES[status]}: {self.c.smelt_last_error().decode(errors='replace')}")


class Model:
    def __init__(self, library, path):
        self.library, self.handle = library, ctypes.c_void_p()
        library.check(library.c.smelt_model_open(str(path).encode(), None, ctypes.byref(self.handle)))
        self.info = ModelInfo(ctypes.sizeof(ModelInfo))
        library.check(library.c.smelt_model_get_info(self.handle, ctypes.byref(self.info)))


class Session:
    def __init__(self, model, slots, context=0, threads=1):
        self.model, self.library, self.handle = model, model.library, ctypes.c_void_p()
        options = SessionOptions(ctypes.sizeof(SessionOptions), context, slots, threads)
        self.library.check(self.library.c.smelt_session_create(model.handle, ctypes.byref(options), ctypes.byref(self.handle)))

    def step(self, tokens, types, rows):
        """Runs tokens (id, position, slot) and their types; the logits [rows, vocabulary] of some of them."""
        batch = (Token * len(tokens))(*[Token(*t) for t in tokens])
        indices = (ctypes.c_int32 * len(rows))(*rows)
        c, count, wanted = self.library.c, ctypes.c_size_t(len(tokens)), ctypes.c_size_t(len(rows))
        if any(types):
            kinds = (ctypes.c_int32 * len(types))(*types)
            self.library.check(c.smelt_step_types(self.handle, batch, kinds, count, indices, wanted))
        else:
            self.library.check(c.smelt_step(self.handle, batch, count, indices, wanted))
        width = self.model.info.vocab_size
        return np.array([np.ctypeslib.as_array(c.smelt_logits(self.handle, ctypes.c_size_t(i)), (width,)) for i in range(len(rows))])

    def close(self):
        self.library.c.smelt_session_free(self.handle)


class Port:
    def __init__(self, struct):
        self.name, self.type, self.dims = struct.name.decode(), TYPES[struct.type], list(struct.dims[: struct.rank])
        self.is_state, self.partner, self.grow_axis = struct.role == STATE, struct.partner, struct.grow_axis


class Graph:
    def __init__(self, model, threads=1):
        self.library, self.handle = model.library, ctypes.c_void_p()
        c, options = self.library.c, GraphOptions(ctypes.sizeof(GraphOptions), threads, 0)
        self.library.check(c.smelt_graph_create(model.handle, ctypes.byref(options), ctypes.byref(self.handle)))
        self.inputs = self._ports(c.smelt_graph_input_count(self.handle), c.smelt_graph_input)
        self.outputs = self._ports(c.smelt_graph_output_count(self.handle), c.smelt_graph_output)

    def _ports(self, count, call):
        ports = []
        for i in range(count):
            struct = PortStruct(ctypes.sizeof(PortStruct))
            self.library.check(call(self.handle, ctypes.c_size_t(i), ctypes.byref(struct)))
            ports.append(Port(struct))
        return ports

    def run(self, feed):
        """Outputs by name, copied, of inputs by name."""
        types = {port.name: port.type for port in self.inputs}
        given = [(name, np.ascontiguousarray(value, types.get(name, value.dtype)).reshape(value.shape)) for name, value in feed.items()]
        tensors = (TensorStruct * len(given))()
        for tensor, (name, value) in zip(tensors, given):
            tensor.name, tensor.type, tensor.rank = name.encode(), TYPES.index(value.dtype.type), value.ndim
            for axis, dim in enumerate(value.shape):
                tensor.dims[axis] = dim
            tensor.data = value.ctypes.data
        self.library.check(self.library.c.smelt_graph_run(self.handle, tensors, ctypes.c_size_t(len(given))))
        found = {}
        for i, port in enumerate(self.outputs):
            tensor = TensorStruct()
            self.library.check(self.library.c.smelt_graph_result(self.handle, ctypes.c_size_t(i), ctypes.byref(tensor)))
            shape, kind = tuple(tensor.dims[: tensor.rank]), np.dtype(TYPES[tensor.type])
            size = int(np.prod(shape)) * kind.itemsize
            found[port.name] = np.frombuffer(ctypes.string_at(tensor.data, size) if size else b"", kind).reshape(shape)
        return found

    def close(self):
        self.library.c.smelt_graph_free(self.handle)
