namespace VirtBackup.Proofs.ConstantMemory;

/// <summary>Says amounts of memory.</summary>
internal static class Memory
{
    public static string MiB(long kib) => $"{kib / 1024.0:0.0} MiB";
}
