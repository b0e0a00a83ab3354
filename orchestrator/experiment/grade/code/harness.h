// SPDX-License-Identifier: Apache-2.0
// The two Python programs of a code grading. The judge runs the benchmark's tests and never sees the candidate's code;
// the candidate's process only answers calls, as literals. So a candidate cannot reach the tests, the comparison or the
// channel of the verdict, however it patches its own interpreter.
#pragma once

namespace conclave::grade::code {

// Common to both: messages are eight hexadecimal digits of length and as many bytes; values travel as literals of
// built-in types only.
inline constexpr const char* kWire = R"py(
import ast, os, sys
LIMIT = 1 << 24

def send(file, text):
    data = text.encode('utf-8', 'surrogatepass')
    if len(data) > LIMIT:
        raise ValueError('message too long')
    file.write(b'%08x' % len(data) + data)
    file.flush()

def receive(file):
    head = file.read(8)
    if len(head) < 8:
        raise EOFError
    length = int(head, 16)
    if length > LIMIT:
        raise ValueError('message too long')
    data = file.read(length)
    if len(data) < length:
        raise EOFError
    return data.decode('utf-8', 'surrogatepass')

def encode(value):
    if value is None or value is True or value is False:
        return repr(value)
    if isinstance(value, int):
        return hex(value)
    if isinstance(value, float):
        return float.__repr__(value)
    if isinstance(value, complex):
        return 'complex(%s,%s)' % (encode(value.real), encode(value.imag))
    if isinstance(value, str):
        return ascii(str(value))
    if isinstance(value, bytes):
        return bytes.__repr__(value)
    if isinstance(value, list):
        return '[' + ','.join(map(encode, value)) + ']'
    if isinstance(value, tuple):
        return '(' + ''.join(encode(item) + ',' for item in value) + ')'
    if isinstance(value, (set, frozenset)):
        return 'set([' + ','.join(map(encode, value)) + '])'
    if isinstance(value, dict):
        return '{' + ','.join(encode(k) + ':' + encode(v) for k, v in value.items()) + '}'
    raise TypeError('a value of type ' + type(value).__name__)

def build(node):
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -build(node.operand)
    if isinstance(node, ast.Name) and node.id in ('inf', 'nan'):
        return float(node.id)
    if isinstance(node, ast.List):
        return [build(item) for item in node.elts]
    if isinstance(node, ast.Tuple):
        return tuple(build(item) for item in node.elts)
    if isinstance(node, ast.Dict):
        return {build(k): build(v) for k, v in zip(node.keys, node.values)}
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
        if node.func.id == 'set' and len(node.args) == 1:
            return set(build(node.args[0]))
        if node.func.id == 'complex' and len(node.args) == 2:
            return complex(build(node.args[0]), build(node.args[1]))
    raise ValueError('not a literal')

def decode(text):
    return build(ast.parse(text, mode='eval').body)
)py";

// Descriptors: 3 its job (a literal: nonce, prompt, test, entry point), 4 to the candidate, 5 from it, 6 the verdict.
inline constexpr const char* kJudge = R"py(
class Gone(BaseException):
    pass

class Raised(Exception):
    pass

with os.fdopen(3, 'r', encoding='utf-8', errors='surrogatepass') as job:
    nonce, prompt, test, entry = decode(job.read())
out, back = os.fdopen(4, 'wb'), os.fdopen(5, 'rb')

def verdict(word):
    os.write(6, (nonce + ' ' + word + '\n').encode())

def answer():
    try:
        text = receive(back)
    except (EOFError, OSError):
        raise Gone('exited')
    if text[:1] == 'V':
        return decode(text[1:])
    if text[:1] == 'M':
        raise Gone('memory')
    raise Raised(text[1:200])

def proxy(name):
    def call(*args, **kwargs):
        try:
            send(out, encode((name, args, kwargs)))
        except OSError:
            raise Gone('exited')
        return answer()
    return call

class Names(dict):
    def __missing__(self, name):
        if hasattr(__builtins__, name):
            raise KeyError(name)
        return proxy(name)

verdict('started')
try:
    import random
    random.seed(0)
    names = Names({'__name__': 'tests', '__builtins__': __builtins__})
    if entry:
        names = {'__name__': 'tests'}
        try:
            code = compile(prompt, 'prompt', 'exec')
        except SyntaxError:
            code = compile(prompt + '\n    pass\n', 'prompt', 'exec')
        exec(code, names)
        names[entry] = proxy(entry)
    tests = compile(test, 'test', 'exec')
    answer()
    exec(tests, names)
    if entry:
        names['check'](names[entry])
except Gone as gone:
    verdict(gone.args[0])
except AssertionError:
    verdict('failed')
except Raised:
    verdict('raised')
except BaseException:
    verdict('failed')
else:
    verdict('passed')
)py";

// Descriptors: 3 the program, 4 calls, 5 answers.
inline constexpr const char* kCandidate = R"py(
with os.fdopen(3, 'r', encoding='utf-8', errors='surrogatepass') as program:
    source = program.read()
calls, answers = os.fdopen(4, 'rb'), os.fdopen(5, 'wb')
names = {'__name__': 'candidate'}

def serve(work):
    try:
        text = 'V' + encode(work())
    except MemoryError:
        text = 'M'
    except BaseException as error:
        text = 'E' + type(error).__name__
    send(answers, text)
    return text[0] == 'V'

def load():
    exec(compile(source, 'candidate', 'exec'), names)

def call():
    name, args, kwargs = decode(receive(calls))
    def work():
        return names[name](*args, **kwargs)
    return serve(work)

if serve(load):
    try:
        while True:
            call()
    except EOFError:
        pass
)py";

}  // namespace conclave::grade::code
