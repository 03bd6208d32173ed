"""llama.cpp's server with the flags that rbee gives llama-server, for machines that have Python and no llama-server."""

import argparse
import os
import signal

import xllamacpp


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("-m", "--model", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("-np", "--parallel", type=int, default=1)
    parser.add_argument("-c", "--ctx-size", type=int, default=0)
    parser.add_argument("-t", "--threads", type=int, default=1)
    parser.add_argument("--chat-template-file")
    arguments = parser.parse_args()

    params = xllamacpp.CommonParams()
    params.model.path = arguments.model
    params.port = arguments.port
    params.n_parallel = arguments.parallel
    params.n_ctx = arguments.ctx_size
    params.cpuparams.n_threads = arguments.threads
    params.cpuparams_batch.n_threads = arguments.threads
    params.warmup = False
    if arguments.chat_template_file:
        with open(arguments.chat_template_file, encoding="utf-8") as template:
            params.chat_template = template.read()
    # Ended by a signal: nothing must be saved, and the server's threads are not waited for.
    ends = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    server = xllamacpp.Server(params)
    signal.sigwait(ends)
    os._exit(0 if server else 1)


if __name__ == "__main__":
    main()
