/* A camera's picture: start it, take one. The camera runs only between the two, and what was taken is all that is sent. */

function button(label) {
  const made = document.createElement("button");
  made.type = "button";
  made.textContent = label;
  made.className = "dspex-webcam-button";
  return made;
}

export default {
  render({ model, el }) {
    const video = document.createElement("video");
    video.autoplay = video.muted = video.playsInline = true;
    const taken = document.createElement("img");
    taken.alt = "the picture taken";
    const start = button("Start camera");
    const take = button("Take picture");
    const said = document.createElement("span");
    said.setAttribute("aria-live", "polite");
    const row = document.createElement("div");
    row.className = "dspex-webcam-row";
    row.append(start, take, said);
    el.classList.add("dspex-webcam");
    el.append(row, video, taken);

    let stream = null;
    let address = "";
    const stop = () => {
      stream?.getTracks().forEach((track) => track.stop());
      stream = null;
      video.srcObject = null;
    };
    const draw = () => {
      const value = model.get("value");
      if (address) URL.revokeObjectURL(address);
      address = value && value.byteLength ? URL.createObjectURL(new Blob([value], { type: "image/jpeg" })) : "";
      taken.src = address;
      taken.hidden = !address || stream !== null;
      video.hidden = stream === null;
      take.disabled = stream === null;
    };
    start.addEventListener("click", async () => {
      said.textContent = "";
      try {
        stream = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: model.get("width") } } });
        video.srcObject = stream;
      } catch (error) {
        said.textContent = `no camera: ${error?.message ?? "this page may not use one"}`;
      }
      draw();
    });
    take.addEventListener("click", () => {
      if (!stream || !video.videoWidth) return;
      const canvas = document.createElement("canvas");
      canvas.width = video.videoWidth;
      canvas.height = video.videoHeight;
      canvas.getContext("2d").drawImage(video, 0, 0);
      canvas.toBlob(
        async (blob) => {
          const content = await blob.arrayBuffer();
          stop();
          model.set("value", new DataView(content));
          model.save_changes();
          said.textContent = `${canvas.width} by ${canvas.height}, ${Math.round(content.byteLength / 1000)} kB`;
          draw();
        },
        "image/jpeg",
        0.9,
      );
    });
    model.on("change:value", draw);
    draw();
    return () => {
      stop();
      model.off("change:value", draw);
      if (address) URL.revokeObjectURL(address);
    };
  },
};
