"""ONNX files of few nodes: every way in which an exporter writes a layer that is read."""

import numpy as np


def write_graph(onnx, path, nodes, constants, shape, out=("N", 3), opset=15):
    """An ONNX file of these nodes (operator, inputs, output, attributes), from "x" to the last output; the model."""
    make = onnx.helper
    nodes = [make.make_node(op, inputs, [output], name=f"the {op} {output}", **more)
             for op, inputs, output, more in nodes]
    value = make.make_tensor_value_info
    graph = make.make_graph(nodes, "test", [value("x", 1, shape)], [value(nodes[-1].output[0], 1, out)],
                            [onnx.numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()])
    model = make.make_model(graph, opset_imports=[make.make_opsetid("", opset)], ir_version=8)
    onnx.save(model, path)
    return model


def f32(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype(np.float32)


GEMM = {"transposed": ("w", {}), "as it stands": ("wt", {"transB": 1}), "scaled": ("w", {"alpha": 0.5, "beta": -2.0})}
DENSE = {"w": f32(12, 4), "wt": f32(12, 4).T.copy(), "b": f32(4), "v": f32(4, 3), "c": f32(1, 3),
         "flat": np.array([-1, 12])}
CHAINS = {  # name: (nodes, input shape)
    **{f"Gemm {name}": ([("Gemm", ["x", w, "b"], "h", more), ("Relu", ["h"], "r", {}), ("Gemm", ["r", "v"], "z", {})],
                        (1, 12)) for name, (w, more) in GEMM.items()},
    "MatMul and Add": ([("MatMul", ["x", "w"], "h", {}), ("Add", ["b", "h"], "a", {}), ("Relu", ["a"], "r", {}),
                        ("MatMul", ["r", "v"], "m", {}), ("Sub", ["m", "c"], "z", {})], ("N", 12)),
    "Flatten of (12, 1)": ([("Flatten", ["x"], "f", {"axis": 1}), ("Gemm", ["f", "w", "b"], "h", {}),
                            ("Relu", ["h"], "r", {}), ("Gemm", ["r", "v"], "z", {})], (1, 12, 1)),
    "Reshape of an image": ([("Reshape", ["x", "flat"], "f", {}), ("MatMul", ["f", "w"], "h", {}),
                             ("Relu", ["h"], "r", {}), ("Identity", ["r"], "i", {}),
                             ("Gemm", ["i", "v"], "z", {})], ("N", 3, 2, 2)),
    "normalised, dense": ([("Sub", ["x", "mean"], "s", {}), ("Div", ["s", "std"], "d", {}), ("Flatten", ["d"], "f", {}),
                           ("Gemm", ["f", "w", "b"], "h", {}), ("Dropout", ["h"], "o", {}), ("Relu", ["o"], "r", {}),
                           ("Gemm", ["r", "v"], "z", {})], ("N", 3, 2, 2)),
    "normalised by number": ([("Mul", ["std1", "x"], "s", {}), ("Add", ["s", "std1"], "a", {}),
                              ("MatMul", ["a", "w"], "h", {}), ("Relu", ["h"], "r", {}),
                              ("Gemm", ["r", "v", "c"], "z", {})], ("N", 12)),
    "normalised, padded convolution": (
        [("Sub", ["x", "mean"], "s", {}), ("Div", ["s", "std"], "d", {}),
         ("Conv", ["d", "k", "b"], "h", {"pads": [1, 0, 1, 0], "strides": [1, 2], "kernel_shape": [3, 2]}),
         ("Add", ["h", "kb"], "a", {}), ("Relu", ["a"], "r", {}), ("Reshape", ["r", "flat8"], "f", {}),
         ("Gemm", ["f", "v8"], "z", {})], ("N", 3, 2, 2)),
    "a vector as an image": ([("Reshape", ["x", "image"], "i", {}), ("Conv", ["i", "k"], "h", {"pads": [1, 0, 1, 0]}),
                              ("Relu", ["h"], "r", {}), ("Flatten", ["r"], "f", {}), ("Gemm", ["f", "v8"], "z", {})],
                             ("N", 12)),
    "view(size(0), -1)": (
        [("Conv", ["x", "k"], "h", {"pads": [1, 0, 1, 0]}), ("Relu", ["h"], "r", {}), ("Shape", ["r"], "s", {}),
         ("Gather", ["s", "i0"], "n", {"axis": 0}), ("Unsqueeze", ["n", "axes"], "u", {}),
         ("Concat", ["u", "rest"], "t", {"axis": 0}), ("Reshape", ["r", "t"], "f", {}),
         ("Gemm", ["f", "v8"], "z", {})], ("N", 3, 2, 2)),
    "the graph's own batch": (  # as torch.onnx.export writes nn.Flatten and all its attributes
        [("Conv", ["x", "k", "b"], "h",
          {"group": 1, "pads": [1, 0, 1, 0], "auto_pad": "NOTSET", "strides": [1, 1], "dilations": [1, 1]}),
         ("Relu", ["h"], "r", {}), ("Reshape", ["r", "own"], "f", {"allowzero": 1}),
         ("Gemm", ["f", "v8"], "z", {"transA": 0, "transB": 0, "alpha": 1.0, "beta": 1.0})], (5, 3, 2, 2)),
    "channels last, then flat": (
        [("Conv", ["x", "k", "b"], "h", {"pads": [1, 1, 1, 1]}), ("Transpose", ["h"], "t", {"perm": [0, 2, 3, 1]}),
         ("Relu", ["t"], "r", {}), ("Reshape", ["r", "flat24"], "f", {}), ("Add", ["f", "v24"], "a", {}),
         ("Gemm", ["a", "w24"], "z", {})], ("N", 3, 2, 2)),
    "pixels transposed at the input": (
        [("Transpose", ["x"], "t", {"perm": [0, 3, 2, 1]}), ("Mul", ["t", "row"], "m", {}),
         ("Flatten", ["m"], "f", {}), ("Gemm", ["f", "w", "b"], "z", {})], ("N", 3, 2, 2)),
    "batch norm after affine layers": (
        [("Conv", ["x", "k", "b"], "h", {"pads": [1, 0, 1, 0]}),
         ("BatchNormalization", ["h", "b", "v4", "m4", "s4"], "n", {"epsilon": 0.1}), ("Relu", ["n"], "r", {}),
         ("Flatten", ["r"], "f", {}), ("Gemm", ["f", "w8"], "g", {}), ("Div", ["g", "s4"], "d", {}),
         ("BatchNormalization", ["d", "b", "v4", "m4", "s4"], "z", {})], ("N", 3, 2, 2)),
    "batch norm before affine layers": (
        [("BatchNormalization", ["x", "m3", "m3", "m3", "s3"], "n", {}), ("Conv", ["n", "k", "b"], "h", {}),
         ("Relu", ["h"], "r", {}), ("BatchNormalization", ["r", "b", "v4", "m4", "s4"], "o", {}),
         ("Conv", ["o", "k4"], "p", {"pads": [1, 1, 1, 1]}), ("Relu", ["p"], "q", {}), ("Flatten", ["q"], "f", {}),
         ("Mul", ["f", "v16"], "m", {}), ("Gemm", ["m", "w16"], "z", {})], ("N", 3, 4, 3)),
    "constants of constants": (
        [("Cast", ["wide"], "w32", {"to": 1}), ("Mul", ["w32", "std1"], "w2", {}), ("Identity", ["c"], "b2", {}),
         ("Cast", ["x"], "y", {"to": 1}), ("Gemm", ["y", "w2", "b2"], "z", {})], ("N", 12)),
    "auto_pad VALID": ([("Conv", ["x", "k", "b"], "h", {"auto_pad": "VALID", "pads": [1, 1, 1, 1]}),
                        ("Flatten", ["h"], "z", {})], ("N", 3, 3, 2)),
}
CHAINS |= {
    **{f"{what}, padded": ([("Conv", ["x", w], "h", more), ("Relu", ["h"], "r", {}),
                            ("Flatten", ["r"], "z", {})], ("N", 3, 2, 2)) for what, w, more in (
        ("groups", "kg", {"group": 3, "pads": [1, 0, 1, 0]}),
        ("dilations", "kg", {"group": 3, "dilations": [1, 2], "pads": [1, 1, 1, 1]}),
        ("uneven pads", "kg", {"group": 3, "pads": [0, 0, 2, 0]}),
        ("SAME_UPPER", "kg", {"group": 3, "auto_pad": "SAME_UPPER"}),
        ("SAME_LOWER", "kg", {"group": 3, "auto_pad": "SAME_LOWER"}))},
    "SAME, a stride of 2": ([("Conv", ["x", "k"], "h", {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
                             ("Flatten", ["h"], "z", {})], ("N", 3, 5, 4)),
    "Pad, then a padded convolution": (
        [("Mul", ["x", "mean"], "m", {}), ("Add", ["m", "mean"], "a", {}), ("Pad", ["a", "sides"], "p", {}),
         ("Pad", ["p", "sides"], "q", {"mode": "constant"}),
         ("Conv", ["q", "k", "b"], "h", {"pads": [0, 1, 1, 0], "strides": [2, 1]}), ("Relu", ["h"], "r", {}),
         ("Flatten", ["r"], "z", {})], ("N", 3, 2, 2)),
    "Pad and SAME": ([("Pad", ["x", "sides", "nil"], "p", {}), ("Conv", ["p", "k"], "h", {"auto_pad": "SAME_UPPER"}),
                      ("Flatten", ["h"], "z", {})], ("N", 3, 3, 2)),
    "pads that the graph computes": (
        [("ConstantOfShape", ["n8"], "o", {}), ("Cast", ["o"], "i", {"to": 7}), ("Add", ["i", "sides"], "s", {}),
         ("Pad", ["x", "s"], "p", {}), ("Conv", ["p", "k"], "h", {}), ("Flatten", ["h"], "z", {})], ("N", 3, 2, 2)),
    "channels last at the input": (
        [("Mul", ["x", "last"], "m", {}), ("Transpose", ["m"], "t", {"perm": [0, 3, 1, 2]}),
         ("Conv", ["t", "k"], "h", {}), ("Flatten", ["h"], "z", {})], ("N", 4, 5, 3)),
    "one channel, last, flat": ([("Flatten", ["x"], "f", {}), ("Gemm", ["f", "w"], "z", {})], ("N", 4, 3, 1)),
    "inverted pixels": ([("Sub", ["std1", "x"], "s", {}), ("Neg", ["s"], "n", {}), ("MatMul", ["n", "w"], "h", {}),
                         ("Sub", ["b", "h"], "z", {})], ("N", 12)),
    "max(x, 0) as Clip and Max": ([("MatMul", ["x", "w"], "h", {}), ("Clip", ["h", "nil"], "r", {}),
                                   ("MatMul", ["r", "w4"], "g", {}), ("Max", ["nil", "g"], "q", {}),
                                   ("MatMul", ["q", "v"], "z", {})], ("N", 12)),
    "axes more and less": ([("Unsqueeze", ["x", "ax"], "u", {}), ("Conv", ["u", "k1"], "h", {}),
                            ("Relu", ["h"], "r", {}), ("Squeeze", ["r", "ax23"], "z", {})], ("N", 3, 2)),
    "weight norm": ([("ReduceL2", ["wt"], "n", {"axes": [1], "keepdims": 1}), ("Div", ["wt", "n"], "d", {}),
                     ("Gemm", ["x", "d", "b"], "z", {"transB": 1})], ("N", 12)),
}
CONSTANTS = {**DENSE, "mean": f32(3, 1, 1), "std": 1 + np.abs(f32(1, 3, 1, 1)), "std1": np.float32([2]),
             "k": f32(4, 3, 3, 2), "kb": f32(4, 1, 1), "v8": f32(8, 3), "flat8": np.array([0, -1]),
             "image": np.array([-1, 3, 2, 2]), "i0": np.array(0), "axes": np.array([0]), "rest": np.array([-1]),
             "own": np.array([5, 8]), "flat24": np.array([-1, 24]), "v24": f32(24), "w24": f32(24, 3),
             "row": f32(2, 1, 3), "v4": f32(1, 4)[0], "m4": f32(2, 4)[1], "s4": 1 + f32(4) ** 2, "w8": f32(8, 4),
             "m3": f32(3), "s3": 1 + f32(3) ** 2, "k4": f32(4, 4, 3, 3), "v16": f32(16), "w16": f32(16, 3),
             "wide": f32(12, 3).astype(float), "kg": f32(6, 1, 3, 2), "last": f32(3), "nil": np.float32(0),
             "w4": f32(4, 4), "ax": np.array([1]), "ax23": np.array([-1, 2]),
             "sides": np.array([0, 0, 1, 0, 0, 0, 0, 2]), "n8": np.array([8]), "k1": f32(4, 1, 3, 2)}
