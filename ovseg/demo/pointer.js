// The class and its confidence beside the pointer, from a hidden picture of the labels: red * 256 + green is the class,
// blue the confidence in 1/255.
() => {
  const tip = document.createElement("div");
  const canvas = document.createElement("canvas");
  const pixels = canvas.getContext("2d", { willReadFrequently: true });
  const map = new Image(); // browsers load no picture that is not displayed
  let drawn = "";
  tip.id = "tip";
  document.body.append(tip);

  function pointed(event) {
    const shown = event.target.closest?.("#overlay") && document.querySelector("#overlay img");
    const source = document.querySelector("#pixels img")?.src;
    const text = document.querySelector("#names textarea")?.value;
    if (!shown || !source || !text) return "";
    if (map.src !== source) map.src = source;
    if (!map.complete || map.naturalWidth !== shown.naturalWidth) return "";
    const [width, height] = [shown.naturalWidth, shown.naturalHeight];
    const box = shown.getBoundingClientRect();
    const scale = Math.min(box.width / width, box.height / height, 1); // as CSS: centred, made smaller but never larger
    const x = Math.floor((event.clientX - box.left - (box.width - width * scale) / 2) / scale);
    const y = Math.floor((event.clientY - box.top - (box.height - height * scale) / 2) / scale);
    if (x < 0 || y < 0 || x >= width || y >= height) return "";
    if (drawn !== map.src) {
      [canvas.width, canvas.height] = [width, height];
      pixels.drawImage(map, 0, 0);
      drawn = map.src;
    }
    const [high, low, sure] = pixels.getImageData(x, y, 1, 1).data;
    const { names, confidence } = JSON.parse(text);
    return names[high * 256 + low] + (confidence ? `, confidence ${Math.round(sure / 2.55)}%` : "");
  }

  document.addEventListener("mousemove", (event) => {
    tip.textContent = pointed(event); // text, never markup
    tip.style.display = tip.textContent ? "block" : "none";
    tip.style.left = `${event.clientX + 14}px`;
    tip.style.top = `${event.clientY + 14}px`;
  });
}
