// Requests to the server of this page, and nowhere else.
import { useEffect, useRef, useState } from "/static/lib/preact-htm.js";

export const address = (path, values = {}) => `${path}?${new URLSearchParams(values)}`;

async function answered(response) {
  const text = await response.text();
  let content;
  try { content = JSON.parse(text); } catch { content = { error: text }; }
  if (!response.ok) throw new Error(content.error || text);
  return content;
}

export const get = async (path, values) => answered(await fetch(address(path, values)));

export const post = async (path, values = {}) =>
  answered(await fetch(path, { method: "POST", body: JSON.stringify(values) }));

export const upload = async (blob) => answered(await fetch("/api/uploads", { method: "POST", body: blob }));

/** Ask again and again while the page is visible; returns the newest answer and the last error. */
export function usePolled(path, values, seconds) {
  const [state, setState] = useState({ answer: null, error: "" });
  const key = JSON.stringify(values ?? null);
  useEffect(() => {
    let over = false, timer;
    const ask = async () => {
      if (!document.hidden) {
        try {
          const answer = await get(path, values ?? {});
          if (!over) setState({ answer, error: "" });
        } catch (error) {
          if (!over) setState((old) => ({ ...old, error: error.message }));
        }
      }
      if (!over) timer = setTimeout(ask, seconds * 1000);
    };
    setState({ answer: null, error: "" });
    ask();
    return () => { over = true; clearTimeout(timer); };
  }, [path, key]);
  return state;
}

const OVER = ["done", "failed", "cancelled"];

/** A call that the worker does: its state, a function that starts it, and one that cancels it. */
export function useJob() {
  const [job, setJob] = useState(null);
  const current = useRef(null);
  useEffect(() => () => { current.current = null; }, []);
  const start = async (path, values) => {
    const mine = (current.current = {});
    setJob({ state: "waiting", done: 0, total: 0, command: "", files: [] });
    try {
      const id = (mine.id = await post(path, values));
      if (mine.cancelled) await post("/api/cancel", { id });
      for (let pause = 8; current.current === mine; pause = Math.min(500, pause * 1.4)) {
        const found = await get("/api/job", { id });
        if (current.current !== mine) return;
        setJob({ ...found, id });
        if (OVER.includes(found.state)) return;
        await new Promise((resolve) => setTimeout(resolve, pause));
      }
    } catch (error) {
      if (current.current === mine) setJob({ state: "failed", error: error.message, command: "", files: [] });
    }
  };
  const cancel = () => {
    const mine = current.current;
    if (mine) mine.cancelled = true; // also before the server has answered with the call's id
    if (mine?.id) post("/api/cancel", { id: mine.id });
  };
  return [job, start, cancel];
}

export const result = (job, name) => address("/api/result", { id: job.id, name });
