// Segments photos in the browser with a graph that `ovseg export` wrote; nothing leaves the page.
//
//   ovseg export --method sclip --out demo/onnx_web/model.onnx --classes "cat, grass, sky"
//   cd demo/onnx_web && npm install && python3 -m http.server
//
// The photo is one window; labels are computed on a picture of at most 800 pixels.
import * as ort from "./node_modules/onnxruntime-web/dist/ort.wasm.bundle.min.mjs";

const SHORT_SIDE = 336;
const LARGEST = 800;
const state = document.getElementById("state");
const say = (text) => { state.textContent = text; };

ort.env.wasm.numThreads = 1; // more needs cross-origin isolation of the page
const words = await (await fetch("model.onnx.words.json")).json();
const session = await ort.InferenceSession.create("model.onnx");
const text = new ort.Tensor("float32", Float32Array.from(words.text.flat()), [words.text.length, words.text[0].length]);
say("choose a photo");

function pixelsOf(photo, width, height) {
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d");
  context.drawImage(photo, 0, 0, width, height);
  return context.getImageData(0, 0, width, height).data;
}

async function scoresOf(photo) {
  const { patch } = words.settings;
  const factor = SHORT_SIDE / Math.min(photo.width, photo.height);
  const side = (n) => Math.max(2, Math.round((n * factor) / patch)) * patch;
  const [width, height] = [side(photo.width), side(photo.height)];
  const rgba = pixelsOf(photo, width, height);
  const images = new Float32Array(3 * width * height);
  for (let i = 0; i < width * height; i++) {
    for (let c = 0; c < 3; c++) images[c * width * height + i] = rgba[4 * i + c];
  }
  const feeds = { images: new ort.Tensor("float32", images, [1, 3, height, width]), text };
  return (await session.run(feeds)).scores;
}

// Bilinear upsampling with centres aligned (align_corners=false), then the best word of every pixel.
function labelsOf(scores, width, height) {
  const [, count, rows, columns] = scores.dims;
  const at = (i, size, cells) => {
    const x = Math.min(Math.max(((i + 0.5) * cells) / size - 0.5, 0), cells - 1);
    const low = Math.floor(x);
    return [low, Math.min(low + 1, cells - 1), x - low];
  };
  const labels = new Uint16Array(width * height);
  for (let y = 0; y < height; y++) {
    const [top, bottom, dy] = at(y, height, rows);
    for (let x = 0; x < width; x++) {
      const [left, right, dx] = at(x, width, columns);
      let best = -Infinity;
      for (let w = 0; w < count; w++) {
        const cell = (r, c) => scores.data[(w * rows + r) * columns + c];
        const upper = cell(top, left) * (1 - dx) + cell(top, right) * dx;
        const lower = cell(bottom, left) * (1 - dx) + cell(bottom, right) * dx;
        const score = upper * (1 - dy) + lower * dy;
        if (score > best) { best = score; labels[y * width + x] = words.word_to_class[w]; }
      }
    }
  }
  return labels;
}

const colourOf = (index) => {
  const hue = (index * 137.508) % 360; // the golden angle: neighbours differ
  return `hsl(${hue} 75% 50%)`;
};

function show(photo, labels, width, height) {
  const canvas = document.getElementById("picture");
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d");
  const counts = words.names.map(() => 0);
  labels.forEach((label) => { counts[label]++; });
  context.drawImage(photo, 0, 0, width, height);
  context.globalAlpha = 0.5;
  for (let y = 0; y < height; y++) {
    for (let x = 0, start = 0; x < width; x++) {
      if (x + 1 === width || labels[y * width + x + 1] !== labels[y * width + x]) {
        context.fillStyle = colourOf(labels[y * width + x]);
        context.fillRect(start, y, x + 1 - start, 1);
        start = x + 1;
      }
    }
  }
  const order = counts.map((n, i) => [n, i]).filter(([n]) => n).sort((a, b) => b[0] - a[0]);
  document.getElementById("legend").replaceChildren(...order.map(([n, i]) => {
    const item = document.createElement("li");
    item.textContent = `${words.names[i]} ${((100 * n) / labels.length).toFixed(1)} %`;
    item.style.color = colourOf(i);
    return item;
  }));
}

document.getElementById("photo").addEventListener("change", async ({ target }) => {
  try {
    say("segmenting");
    const photo = await createImageBitmap(target.files[0], { imageOrientation: "from-image" });
    const factor = Math.min(1, LARGEST / Math.max(photo.width, photo.height));
    const [width, height] = [photo.width, photo.height].map((n) => Math.max(1, Math.round(n * factor)));
    const labels = labelsOf(await scoresOf(photo), width, height);
    show(photo, labels, width, height);
    window.result = { width, height, labels: Array.from(labels) };
    say("done");
  } catch (error) {
    say(`this file cannot be segmented: ${error.message}`);
  }
});
