using VirtBackup.Core;

namespace VirtBackup.Hypervisors.Qemu;

/// <summary>
/// How a machine was started when it was last captured, kept in a folder of the agent: a machine that is off cannot be asked
/// where its disks are, and an older recovery point may know other files.
/// </summary>
internal static class LastSeen
{
    public static void Write(string? folder, Id16 machine, ReadOnlySpan<byte> document)
    {
        if (folder is null)
        {
            return;
        }
        try
        {
            PrivateFolder.Create(folder);
            DurableFile.Write(PathOf(folder, machine), document);
        }
        catch (Exception failure) when (failure is IOException or UnauthorizedAccessException)
        {
            throw new FaultException(FaultReason.FailedPrecondition, $"The folder {folder} cannot be written: {failure.Message}", failure);
        }
    }

    /// <summary>Null: it was never captured by this agent, or the record is gone.</summary>
    public static ArgvDocument? Read(string? folder, Id16 machine)
    {
        if (folder is null)
        {
            return null;
        }
        try
        {
            var path = PathOf(folder, machine);
            return File.Exists(path) ? ArgvDocument.Read(File.ReadAllBytes(path)) : null;
        }
        catch (Exception failure) when (failure is IOException or UnauthorizedAccessException)
        {
            throw new FaultException(FaultReason.FailedPrecondition, $"The folder {folder} cannot be read: {failure.Message}", failure);
        }
    }

    public static void Remove(string? folder, Id16 machine)
    {
        if (folder is not null)
        {
            File.Delete(PathOf(folder, machine));
        }
    }

    private static string PathOf(string folder, Id16 machine) => Path.Combine(folder, $"seen-{machine}.json");
}
