// Segments photos in the browser with a graph that `ovseg export` wrote; nothing leaves the page.
//
//   ovseg export --method sclip --out demo/onnx_web/model.onnx --classes "cat, grass, sky"
//   cd demo/onnx_web && npm install && python3 -m http.server
//
// Windows, their average and the threshold of the background are ovseg's own, from model.onnx.words.json; labels are
// computed on a picture of at most 800 pixels.
import * as ort from "./node_modules/onnxruntime-web/dist/ort.wasm.bundle.min.mjs";

const LARGEST = 800;
const state = document.getElementById("state");
const say = (text) => { state.textContent = text; };

ort.env.wasm.numThreads = 1; // more needs cross-origin isolation of the page
const words = await (await fetch("model.onnx.words.json")).json();
const session = await ort.InferenceSession.create("model.onnx");
const text = new ort.Tensor("float32", Float32Array.from(words.text.flat()), [words.text.length, words.text[0].length]);
say("choose a photo");

// RGBA of a photo at another size, bilinear as ovseg's own: a canvas would filter as its browser likes.
function pixelsOf(photo, width, height) {
  const context = new OffscreenCanvas(photo.width, photo.height).getContext("2d");
  context.drawImage(photo, 0, 0);
  const { data } = context.getImageData(0, 0, photo.width, photo.height);
  const found = new Uint8ClampedArray(4 * width * height); // rounds what is put into it
  const across = axis(width, photo.width);
  let i = 0;
  for (const [top, bottom, dy] of axis(height, photo.height)) {
    for (const [left, right, dx] of across) {
      for (let c = 0; c < 4; c++) {
        const at = (row, column) => data[4 * (row * photo.width + column) + c];
        const upper = at(top, left) * (1 - dx) + at(top, right) * dx;
        found[i++] = upper * (1 - dy) + (at(bottom, left) * (1 - dx) + at(bottom, right) * dx) * dy;
      }
    }
  }
  return found;
}

// Where windows begin on one axis; the last ends with the photo.
function starts(length, crop, stride) {
  const found = [];
  for (let i = 0; i <= Math.max(length - crop + stride - 1, 0); i += stride) found.push(Math.max(Math.min(i, length - crop), 0));
  return found;
}

// Bilinear, centres aligned (align_corners=false): for every pixel of an axis two cells and the weight of the second.
function axis(size, cells) {
  return Array.from({ length: size }, (_, i) => {
    const x = Math.min(Math.max(((i + 0.5) * cells) / size - 0.5, 0), cells - 1);
    const low = Math.floor(x);
    return [low, Math.min(low + 1, cells - 1), x - low];
  });
}

function* enlarged(data, offset, rows, columns, height, width) {
  const across = axis(width, columns);
  for (const [top, bottom, dy] of axis(height, rows)) {
    for (const [left, right, dx] of across) {
      const cell = (r, c) => data[offset + r * columns + c];
      const upper = cell(top, left) * (1 - dx) + cell(top, right) * dx;
      yield upper * (1 - dy) + (cell(bottom, left) * (1 - dx) + cell(bottom, right) * dx) * dy;
    }
  }
}

// Every word's score at every pixel of the photo as the model sees it: { data, height, width }.
async function scoresOf(photo) {
  const { patch, short_side, windows, probability_scale } = words.settings;
  const factor = short_side / Math.min(photo.width, photo.height);
  const side = (n) => Math.max(3, Math.round((n * factor) / patch)) * patch;
  const [width, height] = [side(photo.width), side(photo.height)];
  const rgba = pixelsOf(photo, width, height);
  const crop = windows.crop || Math.max(width, height);
  const stride = windows.stride || crop;
  const [rows, columns, area] = [Math.min(crop, height), Math.min(crop, width), width * height];
  const total = new Float32Array(words.text.length * area);
  const visits = new Float32Array(area);
  for (const top of starts(height, crop, stride)) {
    for (const left of starts(width, crop, stride)) {
      const images = new Float32Array(3 * rows * columns);
      for (let y = 0; y < rows; y++) {
        for (let x = 0; x < columns; x++) {
          const from = 4 * ((top + y) * width + left + x);
          for (let c = 0; c < 3; c++) images[(c * rows + y) * columns + x] = rgba[from + c];
          visits[(top + y) * width + left + x] += 1;
        }
      }
      const feeds = { images: new ort.Tensor("float32", images, [1, 3, rows, columns]), text };
      const { scores } = await session.run(feeds);
      const [, count, gridRows, gridColumns] = scores.dims;
      const cells = gridRows * gridColumns;
      if (probability_scale) softmax(scores.data, count, cells, probability_scale); // MaskCLIP averages probabilities
      for (let w = 0; w < count; w++) {
        let i = 0;
        for (const value of enlarged(scores.data, w * cells, gridRows, gridColumns, rows, columns)) {
          total[w * area + (top + Math.floor(i / columns)) * width + left + (i % columns)] += value;
          i += 1;
        }
      }
    }
  }
  for (let i = 0; i < total.length; i++) total[i] /= visits[i % area];
  return { data: total, height, width };
}

function softmax(data, count, cells, scale) {
  for (let i = 0; i < cells; i++) {
    let sum = 0;
    for (let w = 0; w < count; w++) sum += data[w * cells + i] = Math.exp(scale * (data[w * cells + i] - 1));
    for (let w = 0; w < count; w++) data[w * cells + i] /= sum;
  }
}

// The best word's class of every pixel; the background where its probability is below the threshold.
function labelsOf(scores, width, height) {
  const { logit_scale, threshold, background } = words.settings.head;
  const labels = new Uint16Array(width * height);
  const best = new Float32Array(width * height).fill(-Infinity);
  const sums = new Float64Array(width * height);
  for (let w = 0; w < words.text.length; w++) {
    let i = 0;
    for (const score of enlarged(scores.data, w * scores.height * scores.width, scores.height, scores.width, height, width)) {
      if (score > best[i]) { best[i] = score; labels[i] = words.word_to_class[w]; }
      sums[i] += Math.exp(logit_scale * (score - 1));
      i += 1;
    }
  }
  if (threshold && background !== null) {
    labels.forEach((_, i) => {
      if (Math.exp(logit_scale * (best[i] - 1)) / sums[i] < threshold) labels[i] = background;
    });
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
    // no colour profile is applied: neither Pillow nor OpenCV does
    const photo = await createImageBitmap(target.files[0], { imageOrientation: "from-image", colorSpaceConversion: "none" });
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
