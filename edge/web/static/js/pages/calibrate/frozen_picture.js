/** A still picture of a camera: taken from the running daemon when somebody asks for it. */

import { apiUrl } from "../../api.js";
import { useEffect, useRef, useState } from "../../html.js";

const TRIES = 6;

/** {url, size, number, time, isLoading, failure, take()}: `take` gets a new one. */
export function useFrozenPicture(camera) {
  const [found, setFound] = useState({ url: null, size: null, isLoading: true });
  const url = useRef(null);
  const turn = useRef(0);
  const take = async () => {
    const mine = ++turn.current;
    setFound((before) => ({ ...before, isLoading: true, failure: null }));
    const next = await frameOf(camera).catch((error) => ({ failure: error.message }));
    if (mine !== turn.current) return;
    if (next.blob) {
      if (url.current) URL.revokeObjectURL(url.current);
      url.current = URL.createObjectURL(next.blob);
      setFound({ url: url.current, ...next, isLoading: false });
    } else setFound((before) => ({ ...before, failure: next.failure, isLoading: false }));
  };
  useEffect(() => {
    take();
    return () => {
      turn.current += 1;
      if (url.current) URL.revokeObjectURL(url.current);
      url.current = null;
    };
  }, [camera]);
  return { ...found, take };
}

async function frameOf(camera) {
  for (let attempt = 0; attempt < TRIES; attempt++) {
    const response = await fetch(apiUrl(`/cameras/${encodeURIComponent(camera)}/frame`, { longest_px: 1600 }), { headers: { "X-Defectd": "1" } });
    if (response.status === 204) continue;
    if (!response.ok) break;
    const { size_px: size, number, time } = JSON.parse(response.headers.get("Defectd-Frame"));
    return { blob: await response.blob(), size, number, time };
  }
  return { failure: "The camera gives no picture now." };
}
