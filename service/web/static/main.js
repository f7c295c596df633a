// The page: starts each part, and what they share.
import { startCopying } from "./copy.js";
import { startDigits } from "./digits.js";
import { startFrames } from "./frames.js";
import { startStatus } from "./status.js";

startCopying();
startDigits();
startFrames();
startStatus();
