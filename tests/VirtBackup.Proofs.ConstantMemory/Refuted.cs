namespace VirtBackup.Proofs.ConstantMemory;

/// <summary>The claim under proof does not hold, or could not be shown.</summary>
internal sealed class Refuted(string message) : Exception(message);
