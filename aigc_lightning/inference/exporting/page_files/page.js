// The page: seeds and a class in, a grid of pictures out.
import { load } from "./generator.js";
import { withTexts } from "./png.js";

const MOST = 256; // pictures at a time
const find = (id) => document.getElementById(id);
const say = (text) => { find("state").textContent = text; };

/** Seeds of a text such as "0-15" or "3,7,20-29". */
function seedsOf(text) {
  const seeds = text.split(",").flatMap((part) => {
    const found = /^\s*(\d{1,15})\s*(?:-\s*(\d{1,15})\s*)?$/.exec(part);
    if (!found) throw new Error("Write seeds such as 0-15 or 3,7,20.");
    const first = Number(found[1]), last = Number(found[2] ?? first);
    if (last < first || last - first >= MOST) throw new Error(`Give up to ${MOST} seeds, the smaller one first.`);
    return Array.from({ length: last - first + 1 }, (_, place) => first + place);
  });
  if (seeds.length > MOST) throw new Error(`Give up to ${MOST} seeds.`);
  return seeds;
}

/** Draw pictures side by side. */
function draw(canvas, about, pictures) {
  const { channels, height, width } = about, columns = Math.ceil(Math.sqrt(pictures.length));
  canvas.width = columns * width;
  canvas.height = Math.ceil(pictures.length / columns) * height;
  const pen = canvas.getContext("2d"), area = width * height;
  pictures.forEach((picture, number) => {
    const shown = pen.createImageData(width, height);
    const level = (channel, place) => Math.round((picture[channel * area + place] + 1) * 127.5);
    for (let place = 0; place < area; place += 1) {
      for (let channel = 0; channel < 3; channel += 1) shown.data[4 * place + channel] = level(channels > 1 ? channel : 0, place);
      shown.data[4 * place + 3] = channels === 4 ? level(3, place) : 255;
    }
    pen.putImageData(shown, (number % columns) * width, Math.floor(number / columns) * height);
  });
}

/** Let the link give the canvas as a PNG file. */
async function offer(canvas, about, record) {
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
  const aigc = { generated: true, ...about.origin, ...record };
  const texts = { Source: "generated", Software: about.software, Description: about.description, aigc: JSON.stringify(aigc) };
  const link = find("download");
  URL.revokeObjectURL(link.href);
  link.href = URL.createObjectURL(await withTexts(blob, texts));
  link.hidden = false;
}

async function start() {
  const { about, images } = await load();
  document.title = find("title").textContent = about.title;
  find("about").textContent = `${about.width} × ${about.height} pixels, SHA-256 ${about.origin.sha256}…. ${
    about.keyed ? "A seed gives the picture that aigc sample makes of it." : "Seeds are this page's own: aigc sample makes other pictures of them."}`;
  if (about.labels) {
    const names = about.class_names.length ? about.class_names : Array.from({ length: about.labels }, (_, place) => String(place));
    find("class").append(new Option("each in turn", ""), ...names.map((name, place) => new Option(name, place)));
    find("classes").hidden = false;
  }
  find("form").addEventListener("submit", async (event) => {
    event.preventDefault();
    try {
      const seeds = seedsOf(find("seeds").value), label = find("class").value === "" ? null : Number(find("class").value);
      find("make").disabled = true;
      const began = performance.now();
      const pictures = await images(seeds, label, (count) => say(`${count} of ${seeds.length}`));
      draw(find("grid"), about, pictures);
      await offer(find("grid"), about, { seeds: find("seeds").value, ...(label === null ? {} : { class: label }) });
      say(`${seeds.length} made in ${Math.round(performance.now() - began)} ms.`);
    } catch (error) {
      say(error.message);
    }
    find("make").disabled = false;
  });
  find("make").disabled = false;
  say("Ready.");
}

start().catch((error) => say(`The page cannot start: ${error.message}`));
