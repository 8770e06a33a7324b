using System.Globalization;
using System.Text;
using Azure;
using Azure.Storage;
using Azure.Storage.Blobs;
using Azure.Storage.Blobs.Models;
using Azure.Storage.Blobs.Specialized;
using VirtBackup.CloudStores.Requests;
using VirtBackup.CloudStores.Spool;
using VirtBackup.Core;

namespace VirtBackup.CloudStores.Azure;

/// <summary>The requests of Azure Blob Storage. Bodies carry their MD5, so that one which changes on its way is refused.</summary>
internal sealed class AzureRequests(BlobContainerClient container, HttpClient http, RequestMeter meter, StoreLocation place) : ICloudRequests
{
    private const string NonceName = "virtbackup_put";
    private const string HashName = "virtbackup_sha256";

    private static readonly BlobRequestConditions OnlyIfAbsent = new() { IfNoneMatch = ETag.All };
    private static readonly UploadTransferValidationOptions Checked = new() { ChecksumAlgorithm = StorageChecksumAlgorithm.MD5 };

    public string Location { get; } = $"the repository {place.Text}";

    public StoreTraffic Traffic => meter.Traffic;

    public long SinglePutBytesMax => Limits.OnePutBytesMax;

    public Task PutAsync(string name, SpooledContent content, ObjectMark mark, CancellationToken cancellationToken) => RunAsync(async () =>
    {
        using var body = content.OpenRange(0, content.Length);
        var options = new BlobUploadOptions
        {
            Conditions = OnlyIfAbsent, Metadata = MetadataOf(mark), TransferValidation = Checked,
            // One request, whatever its length.
            TransferOptions = new StorageTransferOptions { InitialTransferSize = SinglePutBytesMax, MaximumTransferSize = SinglePutBytesMax, MaximumConcurrency = 1 },
        };
        return await TakenIfKeptAsync(() => container.GetBlockBlobClient(name).UploadAsync(body, options, cancellationToken));
    });

    // Blocks belong to the blob's name and are dropped by the provider after a week: nothing is begun.
    public Task<string> BeginPartsAsync(string name, ObjectMark mark, CancellationToken cancellationToken) => Task.FromResult(mark.Nonce);

    public Task<string> PutPartAsync(string name, string id, int number, SpooledContent content, long offset, long length, CancellationToken cancellationToken) => RunAsync(async () =>
    {
        using var body = content.OpenRange(offset, length);
        var block = Convert.ToBase64String(Encoding.ASCII.GetBytes(id + number.ToString("D5", CultureInfo.InvariantCulture)));
        await container.GetBlockBlobClient(name).StageBlockAsync(block, body, new BlockBlobStageBlockOptions { TransferValidation = Checked }, cancellationToken);
        return block;
    });

    public Task CompletePartsAsync(string name, string id, IReadOnlyList<string> parts, ObjectMark mark, CancellationToken cancellationToken) => RunAsync(async () =>
        await TakenIfKeptAsync(() => container.GetBlockBlobClient(name).CommitBlockListAsync(
            parts, new CommitBlockListOptions { Conditions = OnlyIfAbsent, Metadata = MetadataOf(mark) }, cancellationToken)));

    public Task AbortPartsAsync(string name, string id, CancellationToken cancellationToken) => Task.CompletedTask;

    public Task<IReadOnlyList<UnfinishedObject>> ListPartsAsync(string prefix, CancellationToken cancellationToken) => Task.FromResult<IReadOnlyList<UnfinishedObject>>([]);

    public Task<CloudObject?> FindAsync(string name, CancellationToken cancellationToken) => RunAsync(async () =>
    {
        try
        {
            var found = (await container.GetBlobClient(name).GetPropertiesAsync(cancellationToken: cancellationToken)).Value;
            return new CloudObject(found.ContentLength, MarkOf(found.Metadata));
        }
        catch (RequestFailedException missing) when (missing.Status == 404 && missing.ErrorCode == AzureFailures.MissingBlob)
        {
            return (CloudObject?)null;
        }
    });

    public Task<CloudBody> GetAsync(string name, long offset, long length, string? version, CancellationToken cancellationToken) => RunAsync(async () =>
    {
        var options = new BlobDownloadOptions { Range = new HttpRange(offset, length) };
        if (version is not null)
        {
            options.Conditions = new BlobRequestConditions { IfMatch = new ETag(version) };
        }
        var answer = (await container.GetBlobClient(name).DownloadStreamingAsync(options, cancellationToken)).Value;
        return new CloudBody(answer, answer.Content, answer.Details.ContentLength, LengthOf(answer.Details), answer.Details.ETag.ToString("G"), MarkOf(answer.Details.Metadata));
    });

    public Task<CloudPage> ListAsync(string prefix, string? continuation, CancellationToken cancellationToken) => RunAsync(async () =>
    {
        await foreach (var page in container.GetBlobsAsync(new GetBlobsOptions { Prefix = prefix }, cancellationToken).AsPages(continuation))
        {
            return new CloudPage(
                [.. page.Values.Where(found => found.Name.StartsWith(prefix, StringComparison.Ordinal)).Select(static found => (found.Name, found.Properties.ContentLength ?? 0))],
                string.IsNullOrEmpty(page.ContinuationToken) ? null : page.ContinuationToken);
        }
        return new CloudPage([], null);
    });

    public Task DeleteAsync(string name, CancellationToken cancellationToken) => RunAsync(async () =>
    {
        try
        {
            await container.GetBlobClient(name).DeleteAsync(DeleteSnapshotsOption.IncludeSnapshots, cancellationToken: cancellationToken);
            return true;
        }
        catch (RequestFailedException missing) when (missing.Status == 404 && missing.ErrorCode == AzureFailures.MissingBlob)
        {
            return false;
        }
    });

    public Task RequireRetentionAsync(CancellationToken cancellationToken) => RunAsync(() => AzureRetention.RequireAsync(container, cancellationToken));

    public Task RetainAsync(string name, DateTimeOffset until, CancellationToken cancellationToken) =>
        RunAsync(() => AzureRetention.RetainAsync(container.GetBlobClient(name), place.Lock, until, cancellationToken));

    public Task<DateTimeOffset?> FindRetentionAsync(string name, CancellationToken cancellationToken) =>
        RunAsync(() => AzureRetention.FindAsync(container.GetBlobClient(name), cancellationToken));

    public CloudRequestException Translate(Exception exception) => AzureFailures.Translate(exception, container.Name);

    public void Dispose() => http.Dispose();

    /// <summary>A name whose blob a policy keeps is taken, whichever of both Azure says first.</summary>
    private static async Task<T> TakenIfKeptAsync<T>(Func<Task<T>> put)
    {
        try
        {
            return await put();
        }
        catch (RequestFailedException kept) when (kept.ErrorCode == AzureFailures.KeptBlob)
        {
            throw new CloudRequestException(FailureKind.ConditionFailed, $"HTTP {kept.Status}, {kept.ErrorCode}", kept);
        }
    }

    private async Task<T> RunAsync<T>(Func<Task<T>> request)
    {
        try
        {
            return await request();
        }
        catch (Exception failure) when (failure is not (OperationCanceledException or CloudRequestException or FaultException))
        {
            throw AzureFailures.Translate(failure, container.Name);
        }
    }

    /// <summary>From "bytes 0-9/100".</summary>
    private static long LengthOf(BlobDownloadDetails details)
    {
        var range = details.ContentRange ?? "";
        return long.TryParse(range.AsSpan(range.LastIndexOf('/') + 1), out var length)
            ? length
            : throw new CloudRequestException(FailureKind.Passing, "a range was answered without saying which one");
    }

    private static Dictionary<string, string> MetadataOf(ObjectMark mark) => new() { [NonceName] = mark.Nonce, [HashName] = mark.Sha256 };

    private static ObjectMark? MarkOf(IDictionary<string, string> metadata) =>
        metadata.TryGetValue(NonceName, out var nonce) && metadata.TryGetValue(HashName, out var hash) ? new ObjectMark(nonce, hash) : null;
}
