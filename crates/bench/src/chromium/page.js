// Plays WHEP streams and notes what it saw and when. Runs in the page that the bench opens.
"use strict";
document.documentElement.style.cssText = "margin:0;background:#000;overflow:hidden";
document.body.style.cssText = "margin:0;display:grid;width:1280px;height:960px";
window.loco = (() => {
  const players = [];

  // An offer as any WHEP player makes it, with everything gathered, and the two data channels.
  async function offer(sound) {
    const connection = new RTCPeerConnection({ bundlePolicy: "max-bundle" });
    const receiver = connection.addTransceiver("video", { direction: "recvonly" }).receiver;
    // No more buffer than the stream asks for; the sender's playout-delay extension says zero.
    receiver.jitterBufferTarget = 0;
    if (sound) connection.addTransceiver("audio", { direction: "recvonly" });
    const keys = connection.createDataChannel("keys");
    const pointer = connection.createDataChannel("pointer", { ordered: false, maxRetransmits: 0 });
    keys.binaryType = "arraybuffer";
    const video = document.createElement("video");
    video.muted = video.autoplay = video.playsInline = true;
    video.style.cssText = "width:100%;height:100%;object-fit:contain";
    const audio = document.createElement("audio");
    audio.autoplay = true;
    connection.ontrack = ({ track }) => {
      // Apart, so that the picture never waits for the sound.
      (track.kind === "video" ? video : audio).srcObject = new MediaStream([track]);
    };
    const index = players.push({ connection, keys, pointer, video, audio, sequence: 0, sightings: null }) - 1;
    const columns = Math.ceil(Math.sqrt(players.length));
    document.body.style.gridTemplateColumns = document.body.style.gridTemplateRows = `repeat(${columns}, 1fr)`;
    document.body.append(video);
    await connection.setLocalDescription();
    if (connection.iceGatheringState !== "complete") {
      await new Promise((done) => connection.addEventListener("icegatheringstatechange", () => {
        if (connection.iceGatheringState === "complete") done();
      }));
    }
    return { index, sdp: connection.localDescription.sdp };
  }

  function within(milliseconds, what, promise) {
    const late = new Promise((_, fail) => setTimeout(() => fail(new Error(`${what} took too long`)), milliseconds));
    return Promise.race([promise, late]);
  }

  async function answer(index, sdp) {
    const player = players[index];
    await player.connection.setRemoteDescription({ type: "answer", sdp });
    await within(15000, "the first picture", new Promise((done) => player.video.requestVideoFrameCallback(done)));
    if (player.keys.readyState !== "open") {
      await within(5000, "the data channel", new Promise((done) => { player.keys.onopen = done; }));
    }
  }

  // From now on notes the brightness of a rectangle (in 1/1 of the picture) of every frame, with its times.
  function watch(index, grid) {
    const player = players[index];
    const canvas = new OffscreenCanvas(16, 16);
    const context = canvas.getContext("2d", { willReadFrequently: true });
    player.sightings = [];
    const seen = (now, data) => {
      if (player.sightings === null) return;
      player.video.requestVideoFrameCallback(seen);
      const { videoWidth, videoHeight } = player.video;
      const [x, y, w, h] = grid.map((part, i) => Math.round(part * (i % 2 ? videoHeight : videoWidth)));
      if (canvas.width !== w) canvas.width = w;
      if (canvas.height !== h) canvas.height = h;
      context.drawImage(player.video, x, y, w, h, 0, 0, w, h);
      const pixels = context.getImageData(0, 0, w, h).data;
      let luma = "";
      for (let i = 1; i < pixels.length; i += 4) luma += String.fromCharCode(pixels[i]);
      player.sightings.push({
        presented_ms: data.presentationTime, shown_ms: data.expectedDisplayTime, called_ms: now,
        picture: [videoWidth, videoHeight], rect: [x, y, w, h], luma: btoa(luma),
      });
    };
    player.video.requestVideoFrameCallback(seen);
  }

  // One message of channel `keys`: kind 1, number, evdev code, down or up; little-endian.
  function key(index, code, pressed) {
    const player = players[index];
    const message = new DataView(new ArrayBuffer(8));
    message.setUint8(0, 1);
    message.setUint32(1, player.sequence++, true);
    message.setUint16(5, code, true);
    message.setUint8(7, pressed ? 1 : 0);
    const now = performance.now();
    player.keys.send(message.buffer);
    return now;
  }

  const sleep = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

  // Presses a key, watches for a while, lets it go. What was seen before the press is the state to compare with.
  async function press(index, code, milliseconds) {
    const pressed_ms = key(index, code, true);
    await sleep(milliseconds);
    key(index, code, false);
    const { sightings } = players[index];
    players[index].sightings = [];
    return { pressed_ms, sightings };
  }

  function take(index) {
    const { sightings } = players[index];
    players[index].sightings = [];
    return sightings;
  }

  function unwatch(index) { players[index].sightings = null; }

  // What the browser counted, for each player.
  async function statistics() {
    const all = [];
    for (const { connection } of players) {
      const row = { frames_decoded: null, bytes: null, jitter_buffer_ms: null, dropped: null, total_audio_energy: null, key_frames: null, key_frame_requests: null };
      for (const report of (await connection.getStats()).values()) {
        if (report.type === "inbound-rtp" && report.kind === "video") {
          row.frames_decoded = report.framesDecoded;
          row.dropped = report.framesDropped;
          row.bytes = report.bytesReceived;
          row.key_frames = report.keyFramesDecoded ?? null;
          row.key_frame_requests = report.pliCount ?? null;
          const frames = report.jitterBufferEmittedCount;
          row.jitter_buffer_ms = frames ? report.jitterBufferDelay / frames * 1000 : null;
        }
        if (report.type === "inbound-rtp" && report.kind === "audio") {
          row.total_audio_energy = report.totalAudioEnergy ?? null;
        }
      }
      all.push(row);
    }
    return all;
  }

  return { offer, answer, watch, unwatch, take, key, press, statistics };
})();
undefined;
