"""A web application with a queen inside: `uvicorn fastapi_app:app`, then `curl 'localhost:8000/ask?question=Hi'`.

A client that goes away cancels its job: the response stops reading it, and the job is dropped.
"""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import StreamingResponse

import rbee


@asynccontextmanager
async def lifespan(application: FastAPI) -> AsyncGenerator[None, None]:
    async with rbee.Queen() as queen:
        application.state.queen = queen
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/ask")
async def ask(request: Request, question: str, tokens: int = 40) -> StreamingResponse:
    queen: rbee.AsyncQueen = request.app.state.queen
    try:
        job = await queen.submit(prompt=question, max_tokens=tokens)
    except rbee.InvalidRequest as error:
        raise HTTPException(400, str(error)) from error
    except rbee.SystemAtCapacity as error:
        raise HTTPException(503, str(error), {"Retry-After": str(round(error.retry_after or 1))}) from error

    async def text() -> AsyncIterator[str]:
        async with job:
            async for piece in job:
                yield piece

    return StreamingResponse(text(), media_type="text/plain; charset=utf-8")


@app.get("/status")
async def status(request: Request) -> dict[str, int]:
    queen: rbee.AsyncQueen = request.app.state.queen
    found = await queen.status()
    return {"jobs": found.jobs, "waiting": found.waiting, "running": found.running}
