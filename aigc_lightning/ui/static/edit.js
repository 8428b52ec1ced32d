// Editing a picture: masks are painted here, references uploaded.
import { html, useEffect, useRef, useState } from "/static/lib/preact-htm.js";
import { result, upload, useJob } from "/static/api.js";
import { BeforeAfter, Command, Field, JobState, Options, Picture } from "/static/parts.js";

export function Edit({ checkpoint, model }) {
  const { conditions, required, mixes, options: declared } = model.edit;
  const [picture, setPicture] = useState(null), [references, setReferences] = useState([]);
  const [values, setValues] = useState({}), [options, setOptions] = useState({}), [problem, setProblem] = useState("");
  const [job, start, cancel] = useJob();
  const mask = useRef(null);
  const takes = (name) => conditions.includes(name);
  const set = (some) => setValues((old) => ({ ...old, ...some }));
  const submit = async (event) => {
    event.preventDefault();
    setProblem("");
    try {
      const painted = takes("masks") ? await mask.current() : null;
      if (!painted && required.includes("masks")) throw new Error("Paint over what is to be filled.");
      await start("/api/edit", { checkpoint, picture: picture.id, mask: painted?.id, references: references.map((one) => one.id), ...values, options });
    } catch (error) {
      setProblem(error.message);
    }
  };
  return html`<div class="columns"><form class="card" onSubmit=${submit}>
      <${Picture} label="Picture" value=${picture} onValue=${setPicture} />
      ${takes("references") && html`<${Picture} label=${mixes ? "Reference to add" : "Reference"} value=${references.at(-1)}
        onValue=${(one) => setReferences((old) => (mixes ? [...old, one].slice(-4) : [one]))} />
        ${references.map((one) => html`<img src=${one.url} alt="Reference" class="shown" />`)}
        ${references.length > 0 && html`<button type="button" onClick=${() => setReferences([])}>Remove references</button>`}`}
      ${takes("prompts") && html`<${Field} label="Prompt" value=${values.prompt ?? ""} onValue=${(prompt) => set({ prompt })} />`}
      ${takes("seeds") && html`<${Field} label="Seed" inputmode="numeric" value=${values.seed ?? ""} onValue=${(seed) => set({ seed })} />`}
      ${takes("direction") && html`<${Field} label="Direction" choices=${["", "AtoB", "BtoA"]} value=${values.direction ?? ""} onValue=${(direction) => set({ direction })} />`}
      <${Options} options=${declared} values=${options} onValues=${setOptions} />
      <div class="row"><button class="main" disabled=${!picture}>Edit</button></div>
      ${problem && html`<p class="error" role="alert">${problem}</p>`}<${JobState} job=${job} cancel=${cancel} /></form>
    <section class="card" aria-label="Result">
      ${picture && takes("masks") && html`<${Mask} key=${picture.id} picture=${picture} give=${mask} />`}
      ${picture && job?.state === "done" ? html`<h2>Result</h2><${BeforeAfter} key=${job.id} before=${picture.url} after=${result(job, "edited.png")} />
        <p><a href=${result(job, "edited.png")} download="edited.png">Download</a>
          <span class="dim"> The file says that it was edited, and by what.</span></p>`
      : picture && !takes("masks") && html`<img class="pixels shown" src=${picture.url} alt="Picture" />`}
      <${Command} text=${job?.command} /></section></div>`;
}

/** Paint what is to be filled; `give.current()` uploads the mask, or returns null if nothing is painted. */
function Mask({ picture, give }) {
  const canvas = useRef(), painting = useRef(false), [brush, setBrush] = useState(Math.ceil(Math.max(picture.width, picture.height) / 12));
  const [box, setBox] = useState({ left: 25, top: 25, width: 50, height: 50 }), painted = useRef(false);
  const pen = () => canvas.current.getContext("2d");
  useEffect(() => {
    give.current = async () => {
      if (!painted.current) return null;
      const copy = Object.assign(document.createElement("canvas"), { width: picture.width, height: picture.height });
      const target = copy.getContext("2d");
      target.fillRect(0, 0, copy.width, copy.height);
      target.drawImage(canvas.current, 0, 0);
      const all = target.getImageData(0, 0, copy.width, copy.height);
      for (let place = 0; place < all.data.length; place += 4) all.data.fill(all.data[place] > 127 ? 255 : 0, place, place + 3);
      target.putImageData(all, 0, 0);
      return upload(await new Promise((resolve) => copy.toBlob(resolve, "image/png")));
    };
  }, [picture]);
  const dot = (event) => {
    if (!painting.current) return;
    const frame = canvas.current.getBoundingClientRect(), context = pen();
    context.fillStyle = "#fff";
    context.beginPath();
    context.arc((event.clientX - frame.left) * picture.width / frame.width, (event.clientY - frame.top) * picture.height / frame.height, brush / 2, 0, 7);
    context.fill();
    painted.current = true;
  };
  const fill = () => {
    const part = (share, whole) => Math.round(share * whole / 100), context = pen();
    context.fillStyle = "#fff";
    context.fillRect(part(box.left, picture.width), part(box.top, picture.height), part(box.width, picture.width), part(box.height, picture.height));
    painted.current = true;
  };
  const clear = () => { pen().clearRect(0, 0, picture.width, picture.height); painted.current = false; };
  return html`<div><h2>Mask</h2><p class="dim">Paint over what is to be filled, or add a rectangle.</p>
    <div class="paint" onPointerDown=${(event) => { painting.current = true; event.currentTarget.setPointerCapture(event.pointerId); dot(event); }}
        onPointerMove=${dot} onPointerUp=${() => { painting.current = false; }}>
      <img class="pixels" src=${picture.url} alt="Picture" draggable=${false} /><canvas ref=${canvas} width=${picture.width} height=${picture.height} aria-label="Mask"></canvas></div>
    <${Field} label=${`Brush: ${brush} pixels`} type="range" min="1" max=${Math.max(picture.width, picture.height) / 2} value=${brush} onValue=${(text) => setBrush(Number(text))} />
    <fieldset><legend>Rectangle, in % of the picture</legend><div class="row">${Object.keys(box).map((name) => html`<label class="inline">${name}
      <input class="short" type="number" min="0" max="100" value=${box[name]} onInput=${(event) => setBox({ ...box, [name]: Number(event.target.value) })} /></label>`)}
      <button type="button" onClick=${fill}>Add</button></div></fieldset>
    <button type="button" onClick=${clear}>Clear the mask</button></div>`;
}
