// The exported generator, run by onnxruntime-web from the files beside this one.
import * as ort from "./runtime/ort.wasm.min.mjs";
import { normal } from "./noise.js";

const CHUNK = 16; // pictures in one call

ort.env.wasm.wasmPaths = new URL("./runtime/", import.meta.url).href;
ort.env.wasm.numThreads = 1; // more need headers that plain servers do not send

/** Load the program; returns what `about.json` says of it, and a function that makes pictures. */
export async function load() {
  const about = await (await fetch(new URL("./about.json", import.meta.url))).json();
  const model = new URL("./model.onnx", import.meta.url).href;
  const session = await ort.InferenceSession.create(model, { executionProviders: ["wasm"] });
  return { about, images: (seeds, label, done) => images(session, about, seeds, label, done) };
}

/** Pictures of seeds, each a Float32Array (channels, height, width) in [-1, 1]; `done` is told how many there are. */
async function images(session, about, seeds, label, done = () => {}) {
  const made = [], count = about.latents.reduce((product, size) => product * size, 1);
  const size = about.channels * about.height * about.width;
  for (let start = 0; start < seeds.length; start += CHUNK) {
    const chunk = seeds.slice(start, start + CHUNK), latents = new Float32Array(chunk.length * count);
    chunk.forEach((seed, place) => latents.set(normal(seed, count), place * count));
    const given = { latents: new ort.Tensor("float32", latents, [chunk.length, ...about.latents]) };
    if (about.labels) {
      const labels = chunk.map((seed) => BigInt(label ?? seed) % BigInt(about.labels));
      given.labels = new ort.Tensor("int64", BigInt64Array.from(labels), [chunk.length]);
    }
    const { images: output } = await session.run(given);
    chunk.forEach((_, place) => made.push(output.data.slice(place * size, (place + 1) * size)));
    done(made.length);
    await new Promise((resolve) => setTimeout(resolve));
  }
  return made;
}
