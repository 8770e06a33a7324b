using VirtBackup.Core;

namespace VirtBackup.Hypervisors.Targets;

/// <summary>A folder that restored disks go to.</summary>
internal sealed class FolderTarget(TargetStorage storage) : IRestoreTarget
{
    public string Name => storage.Name;

    public ValueTask<ITargetSample> BeginSampleAsync(CancellationToken cancellationToken) => ValueTask.FromResult<ITargetSample>(TargetSample.Create(storage));
}

/// <summary>A nameless file on the folder's file system.</summary>
internal sealed class TargetSample : ITargetSample
{
    private readonly FileStream file;

    private TargetSample(FileStream file) => this.file = file;

    /// <summary>Makes the file in the storage's folder.</summary>
    /// <exception cref="FaultException"><see cref="FaultReason.FailedPrecondition"/>: nothing can be written there.</exception>
    public static TargetSample Create(TargetStorage storage)
    {
        var path = Path.Combine(storage.Folder, $".virtbackup-sample-{Path.GetRandomFileName()}");
        try
        {
            var file = new FileStream(path, FileMode.CreateNew, FileAccess.Write, FileShare.Delete, bufferSize: 0, FileOptions.Asynchronous | FileOptions.DeleteOnClose);
            if (OperatingSystem.IsLinux())
            {
                File.Delete(path); // a killed agent leaves nothing
            }
            return new TargetSample(file);
        }
        catch (Exception failure) when (failure is IOException or UnauthorizedAccessException)
        {
            throw new FaultException(FaultReason.FailedPrecondition, $"Nothing can be written to {storage.Folder}: {failure.Message}", failure);
        }
    }

    public async ValueTask WriteAsync(long offset, ReadOnlyMemory<byte> source, CancellationToken cancellationToken)
    {
        try
        {
            await RandomAccess.WriteAsync(file.SafeFileHandle, source, offset, cancellationToken);
        }
        catch (IOException failure)
        {
            throw new FaultException(FaultReason.FailedPrecondition, $"A sample of data could not be written to {file.Name}: {failure.Message}", failure);
        }
    }

    public ValueTask FlushAsync(CancellationToken cancellationToken)
    {
        try
        {
            RandomAccess.FlushToDisk(file.SafeFileHandle);
            return ValueTask.CompletedTask;
        }
        catch (IOException failure)
        {
            throw new FaultException(FaultReason.FailedPrecondition, $"A sample of data could not be written to {file.Name}: {failure.Message}", failure);
        }
    }

    public ValueTask DisposeAsync() => file.DisposeAsync();
}
