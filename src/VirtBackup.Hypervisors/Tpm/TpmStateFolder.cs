using VirtBackup.Core;

namespace VirtBackup.Hypervisors.Tpm;

/// <summary>The folder in which a TPM emulator (swtpm) keeps its state. Nobody but its owner may read what is written there.</summary>
internal static class TpmStateFolder
{
    /// <summary>
    /// Reads the state as it is now. The emulator replaces a file as a whole whenever the TPM's permanent memory changes, so that
    /// each is of one instant.
    /// </summary>
    /// <returns>Null: there is none yet.</returns>
    /// <exception cref="FaultException"><see cref="FaultReason.FailedPrecondition"/>: it cannot be read, or is larger than any TPM's.</exception>
    public static TpmState? Read(string folder)
    {
        try
        {
            var files = new List<TpmStateFile>();
            foreach (var path in Directory.EnumerateFiles(folder).Where(path => TpmState.IsStateFile(Path.GetFileName(path))).Order(StringComparer.Ordinal))
            {
                using var file = File.OpenHandle(path, share: FileShare.ReadWrite | FileShare.Delete);
                var length = RandomAccess.GetLength(file);
                if (length > TpmState.FileBytesMax)
                {
                    throw new FaultException(FaultReason.FailedPrecondition, $"The TPM's state {path} has {length} bytes; at most {TpmState.FileBytesMax} are stored.");
                }
                var bytes = new byte[length];
                for (var at = 0; at < bytes.Length;)
                {
                    var count = RandomAccess.Read(file, bytes.AsSpan(at), at);
                    at += count > 0 ? count : throw new IOException($"{path} ends after {at} of {bytes.Length} bytes.");
                }
                files.Add(new TpmStateFile(Path.GetFileName(path), bytes));
            }
            return files.Count == 0 ? null : new TpmState(files);
        }
        catch (Exception failure) when (failure is IOException or UnauthorizedAccessException)
        {
            throw new FaultException(FaultReason.FailedPrecondition, $"The TPM's state in {folder} cannot be read: {failure.Message}", failure);
        }
    }

    /// <summary>Where files of a state may lie.</summary>
    public static IEnumerable<string> PathsIn(string folder) => TpmState.FileNames.Select(name => Path.Combine(folder, name));

    /// <summary>Makes the folder, and the files of the state in it, durably.</summary>
    /// <exception cref="FaultException"><see cref="FaultReason.FailedPrecondition"/>.</exception>
    public static void Write(string folder, TpmState state)
    {
        try
        {
            PrivateFolder.Create(folder);
            foreach (var file in state.Files)
            {
                DurableFile.WritePrivate(Path.Combine(folder, file.Name), file.Bytes.Span);
            }
            DurableFolder.Flush(Path.GetDirectoryName(folder)!);
        }
        catch (Exception failure) when (failure is IOException or UnauthorizedAccessException)
        {
            throw new FaultException(FaultReason.FailedPrecondition, $"The TPM's state cannot be written to {folder}: {failure.Message}", failure);
        }
    }
}
